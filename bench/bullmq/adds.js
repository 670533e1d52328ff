// Durable submits: adds jobs that nobody works on.
import { Queue } from 'bullmq';
import { addAll, connectionTo, numbers, print, quantiles, QUEUE } from './common.js';

const args = numbers({ port: undefined, jobs: 20000, 'warm-up': 2000, 'in-flight': 64, 'input-bytes': 200 });
const queue = new Queue(QUEUE, { connection: connectionTo(args.port) });
const load = { inFlight: args['in-flight'], inputBytes: args['input-bytes'] };
await addAll(queue, { ...load, jobs: args['warm-up'] });
const { seconds, samples } = await addAll(queue, { ...load, jobs: args.jobs });
print(args.jobs, { submit_seconds: seconds, submits_per_second: args.jobs / seconds, answers: quantiles(samples) });
await queue.close();
