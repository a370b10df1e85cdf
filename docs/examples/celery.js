// A roster, requests, a batch and its counts with celery-node: node celery.js redis://localhost:6379/0 night-1
const celery = require("celery-node");

function queue(url, name) {
  const client = celery.createClient(url, url);
  client.conf.CELERY_QUEUE = name; // A client publishes to one queue.
  return client;
}

async function main([url, name]) {
  const batches = queue(url, "batches");
  const enrollments = queue(url, "enrollments");
  const lookups = queue(url, "lookups");
  const send = (task, batch_id, records) =>
    batches.sendTask(task, [{ batch_id, number: 0, last: true, records }], {});
  const status = (id) => lookups.sendTask("enrollment.batch", [[id]], {}).get(10000, 50);

  async function done(id) {
    for (;;) {
      const [batch] = await status(id);
      if (batch.state === "done") return batch;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  send("roster.upsert_students", `${name}-students`, [{ sis_id: "N1", name: "Ada" }]);
  send("roster.upsert_courses", `${name}-courses`, [{ sis_id: "NODE-1", title: "Node" }]);
  await done(`${name}-students`);
  await done(`${name}-courses`);
  // Of two requests, the one with the later time wins.
  const as_of = new Date().toISOString();
  const request = { student_id: "N1", course_ids: ["NODE-1"], request_id: `${name}-1`, as_of };
  const result = await enrollments.sendTask("enrollment.enroll", [request], {}).get(10000, 50);
  send("enrollment.enroll_batch", name, [
    { student_id: "N1", course_ids: ["NODE-1"] },
    { student_id: "N2", course_ids: ["NODE-1"] },
  ]);
  const batch = await done(name);
  const drop = {
    student_id: "N1",
    drop_course_ids: ["NODE-1"],
    request_id: `${name}-2`,
    reason: "moved to evening classes",
    as_of: new Date().toISOString(),
  };
  const dropped = await enrollments.sendTask("enrollment.enroll", [drop], {}).get(10000, 50);
  console.log(JSON.stringify({ result, books: batch.books, refusals: batch.refusals, dropped }));
  await Promise.all([batches, enrollments, lookups].map((client) => client.disconnect()));
}

main(process.argv.slice(2));
