// A worker in a process of its own: does nothing with each job, and tells its parent when so many are completed, which
// BullMQ says once Redis has answered. Jobs that bear the time of their adding are measured.
import { Worker } from 'bullmq';
import { connectionTo, micros, quantiles, QUEUE } from './common.js';

const [port, concurrency] = process.argv.slice(2).map(Number);
let pickups = [];
let completed = 0;
let goal = Infinity;

function tellWhenDone() {
  if (completed < goal) return;
  process.send({ at: micros(), pickups: quantiles(pickups) });
  pickups = [];
  completed -= goal;
  goal = Infinity;
}

const worker = new Worker(
  QUEUE,
  async (job) => {
    if (job.data.at) pickups.push(micros() - job.data.at);
  },
  { connection: connectionTo(port), concurrency },
);
worker.on('completed', () => {
  completed += 1;
  tellWhenDone();
});
worker.on('failed', (job, error) => process.send({ error: String(error) }));
process.on('message', async (message) => {
  if (message.stop) {
    await worker.close();
    process.disconnect();
  } else {
    goal = message.goal;
    tellWhenDone();
  }
});
await worker.waitUntilReady();
process.send({ ready: true });
