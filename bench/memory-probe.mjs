/** Is imported into a process before its own code (memory.ts): answers on a port of its own with the memory that is left after collections of garbage. */
import { createServer } from 'node:http';
import { Session } from 'node:inspector/promises';

/** What waits for a finaliser, or for what was freed before it, is gone after the last of them. */
const collections = 4;

createServer((_request, response) => {
  void collectGarbage().then(() => response.end(JSON.stringify(process.memoryUsage())));
})
  .listen(Number(process.env['MEMORY_PROBE_PORT']), '127.0.0.1')
  .unref();

/** As when memory is short: what was only kept for garbage to come is given back too. */
async function collectGarbage() {
  const session = new Session();
  session.connect();
  for (let n = 0; n < collections; n++) await session.post('HeapProfiler.collectGarbage');
  session.disconnect();
}
