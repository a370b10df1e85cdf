"""Enroll or drop a student with a Redis client alone: python raw.py URL S1 LOGIC-1 --drop ALG-1."""

import base64
import json
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta

from redis import Redis


def moment(redis):
    """Return the time on the clock of Redis: of two requests, the later one wins."""
    seconds, microseconds = redis.time()
    now = datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def message(task, task_id, args, moment):
    body = json.dumps([args, {}, {}]).encode()
    return json.dumps(
        {
            "headers": {"task": task, "id": task_id, "enrollment-moment": moment},
            "properties": {"body_encoding": "base64", "timestamp": int(time.time())},
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "body": base64.b64encode(body).decode(),
        }
    )


redis = Redis.from_url(sys.argv[1])
courses = sys.argv[3:]
drop = [*courses, "--drop"].index("--drop")
request = {
    "student_id": sys.argv[2],
    "course_ids": courses[:drop],
    "request_id": str(uuid.uuid4()),
}
if drop < len(courses):
    request["drop_course_ids"] = courses[drop + 1 :]
task_id = str(uuid.uuid4())
redis.lpush("enrollments", message("enrollment.enroll", task_id, [request], moment(redis)))
end = time.monotonic() + 30
while (answer := redis.get(f"celery-task-meta-{task_id}")) is None:
    if time.monotonic() > end:
        sys.exit(f"No worker answered yet; look up request {request['request_id']} later.")
    time.sleep(0.05)
print(json.dumps(json.loads(answer)["result"]))
