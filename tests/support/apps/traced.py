"""The same worker, followed by OpenTelemetry; the spans go into the folder `SPANS`.

So do the signals of success, which OpenTelemetry does not use.
"""

import os
from pathlib import Path
from typing import Any

from celery import signals
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from worker.app import make_app
from worker.settings import load_settings

app = make_app(load_settings())


def instrument(**_: Any) -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    CeleryInstrumentor().instrument(tracer_provider=provider)
    succeeded: list[str] = []
    signals.task_success.connect(lambda sender, **_: succeeded.append(sender.name), weak=False)
    folder = Path(os.environ["SPANS"])
    folder.mkdir(exist_ok=True)

    def write(**_: Any) -> None:
        lines = [f"{span.name}\t{_trace_of(span)}\n" for span in memory.get_finished_spans()]
        lines += [f"success/{name}\t\n" for name in succeeded]
        part = folder / f"{os.getpid()}.part"
        part.write_text("".join(lines))
        part.rename(part.with_suffix(".spans"))

    # Connected last, so that it runs after the instrumentation.
    signals.task_postrun.connect(write, weak=False)


def _trace_of(span: ReadableSpan) -> str:
    return "" if span.context is None else format(span.context.trace_id, "032x")


signals.worker_process_init.connect(instrument, weak=False)
