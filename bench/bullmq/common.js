// What the three measurements share. Times are of the monotonic clock, which all processes of a machine share.
import { parseArgs } from 'node:util';

export const QUEUE = 'bench';

export const micros = () => Number(process.hrtime.bigint() / 1000n);

// --name value for each name; all are numbers, and those without a default must be given.
export function numbers(defaults) {
  const options = Object.fromEntries(Object.keys(defaults).map((name) => [name, { type: 'string' }]));
  const { values } = parseArgs({ options });
  return Object.fromEntries(
    Object.entries(defaults).map(([name, fallback]) => {
      const value = Number(values[name] ?? fallback);
      if (!Number.isFinite(value)) throw new Error(`--${name} must be a number`);
      return [name, value];
    }),
  );
}

export const connectionTo = (port) => ({ host: '127.0.0.1', port, maxRetriesPerRequest: null });

// {"prompt":"..."} of so many bytes in all.
export const inputOf = (bytes) => ({ prompt: 'x'.repeat(bytes - 13) });

// Nearest rank.
export function quantiles(samples) {
  const sorted = Float64Array.from(samples).sort();
  const rank = (percent) => (sorted.length ? sorted[Math.ceil((sorted.length * percent) / 100) - 1] : 0);
  return { samples: sorted.length, p50_us: rank(50), p99_us: rank(99), max_us: sorted.at(-1) ?? 0 };
}

// Adds `jobs` jobs with `inFlight` adds under way at once; gives the seconds it took and how long each add took.
export async function addAll(queue, { jobs, inFlight, inputBytes }) {
  const input = inputOf(inputBytes);
  const samples = [];
  let sent = 0;
  const started = micros();
  const one = async () => {
    while (sent < jobs) {
      sent += 1;
      const at = micros();
      const job = await queue.add('job', input);
      if (!job.id) throw new Error('an add without an id');
      samples.push(micros() - at);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, one));
  return { started, seconds: (micros() - started) / 1e6, samples };
}

export function print(jobs, result) {
  process.stdout.write(`${JSON.stringify({ jobs, ...result })}\n`);
}
