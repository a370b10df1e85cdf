// Enroll or drop a student with a Redis client alone: node raw.js redis://localhost:6379/0 S1 LOGIC-1 --drop ALG-1
const { randomUUID } = require("crypto");
const { createClient } = require("redis");

// The time on the clock of Redis: of two requests, the later one wins.
async function moment(redis) {
  const [seconds, microseconds] = (await redis.sendCommand(["TIME"])).map(Number);
  const time = new Date(seconds * 1000).toISOString().slice(0, 19);
  return `${time}.${String(microseconds).padStart(6, "0")}Z`;
}

function message(task, taskId, args, moment) {
  return JSON.stringify({
    headers: { task, id: taskId, "enrollment-moment": moment },
    properties: { body_encoding: "base64", timestamp: Math.floor(Date.now() / 1000) },
    "content-type": "application/json",
    "content-encoding": "utf-8",
    body: Buffer.from(JSON.stringify([args, {}, {}])).toString("base64"),
  });
}

async function main([url, studentId, ...courses]) {
  const redis = await createClient({ url }).connect();
  const drop = [...courses, "--drop"].indexOf("--drop");
  const request = { student_id: studentId, course_ids: courses.slice(0, drop), request_id: randomUUID() };
  if (drop < courses.length) request.drop_course_ids = courses.slice(drop + 1);
  const taskId = randomUUID();
  const text = message("enrollment.enroll", taskId, [request], await moment(redis));
  await redis.lPush("enrollments", text);
  const end = Date.now() + 30000;
  let answer = null;
  while ((answer = await redis.get(`celery-task-meta-${taskId}`)) === null) {
    if (Date.now() > end) throw new Error(`No worker answered yet; look up request ${request.request_id} later.`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  console.log(JSON.stringify(JSON.parse(answer).result));
  await redis.quit();
}

main(process.argv.slice(2));
