// Submitting and working at the same time, in two processes: end to end until all is completed and durable, or, with
// --per-second, how soon a job is picked up when that many are added each second.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue } from 'bullmq';
import { addAll, connectionTo, inputOf, micros, numbers, print, QUEUE } from './common.js';

const args = numbers({
  port: undefined, jobs: 20000, 'warm-up': 2000, 'in-flight': 64, 'input-bytes': 200, 'per-second': 0, concurrency: 64,
});
const queue = new Queue(QUEUE, { connection: connectionTo(args.port) });
const child = fork(new URL('worker.js', import.meta.url), [String(args.port), String(args.concurrency)]);

async function told() {
  const [message] = await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(() => [{ error: 'the worker ended' }]),
  ]);
  if (message.error) throw new Error(message.error);
  return message;
}

// Adds jobs at a steady pace, each with the time of its adding in it; the input keeps its size.
async function addPaced(jobs) {
  const pad = JSON.stringify({ at: micros() }).length;
  const input = inputOf(args['input-bytes'] - pad + 1);
  const started = micros();
  const pending = new Set();
  for (let sent = 0; sent < jobs; ) {
    const due = Math.min(jobs, Math.ceil(((micros() - started) * args['per-second']) / 1e6));
    for (; sent < due; sent += 1) {
      const add = queue.add('job', { ...input, at: micros() });
      pending.add(add);
      add.finally(() => pending.delete(add));
    }
    await sleep(1);
  }
  await Promise.all(pending);
  return { started, seconds: (micros() - started) / 1e6 };
}

async function round(jobs) {
  const done = told();
  child.send({ goal: jobs });
  const add = args['per-second'] > 0 ? addPaced(jobs) : addAll(queue, { jobs, inFlight: args['in-flight'], inputBytes: args['input-bytes'] });
  const [{ started, seconds }, { at, pickups }] = await Promise.all([add, done]);
  return { submit_seconds: seconds, complete_seconds: (at - started) / 1e6, pickups };
}

try {
  await told();
  if (args['warm-up'] > 0) await round(args['warm-up']);
  const result = await round(args.jobs);
  print(args.jobs, { ...result, completes_per_second: args.jobs / result.complete_seconds });
  child.send({ stop: true });
  await once(child, 'exit');
} finally {
  child.kill();
}
await queue.close();
