/** How one command speaks to a cluster that another started: HTTP on a socket in its data folder, which only the same account may open. */
import { createServer, request, type IncomingMessage, type Server } from 'node:http';
import { rm } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { UsageError } from '../../src/failure.js';

export interface ClusterState {
  readonly url: string;
  /** Process ids; undefined of what doesn't run at the moment. */
  readonly nginx: number | undefined;
  readonly nodes: readonly { readonly name: string; readonly url: string; readonly pid: number | undefined }[];
}

export interface Controlled {
  state(): ClusterState;
  /** @param say takes a line of progress */
  roll(say: (line: string) => void): Promise<void>;
}

const last = { ok: 'done', failed: 'failed: ' };

/** The shorter way to write it: a socket's address has room for about 100 bytes. */
const addressIn = (dataDir: string): string => {
  const address = join(resolve(dataDir), 'cluster.sock');
  const fromHere = relative(process.cwd(), address);
  return fromHere.length < address.length ? fromHere : address;
};

/** @throws UsageError when a cluster runs from this folder already */
export async function refuseSecond(dataDir: string): Promise<void> {
  const running = await clusterState(dataDir);
  if (running === undefined) return;
  throw new UsageError(
    `A cluster is running from ${resolve(dataDir)} already, on ${running.url}. Stop it first, or give this one its own folder: DATA_DIR=…`,
  );
}

export async function control(dataDir: string, cluster: Controlled): Promise<Server> {
  await rm(addressIn(dataDir), { force: true }); // of one that was killed
  const server = createServer(({ method, url }, answer) => {
    if (method === 'GET' && url === '/') return answer.end(JSON.stringify(cluster.state()));
    if (method !== 'POST' || url !== '/roll') return answer.writeHead(404).end();
    cluster
      .roll((line) => answer.write(`${line}\n`))
      .then(
        () => answer.end(`${last.ok}\n`),
        (error: unknown) => answer.end(`${last.failed}${error instanceof Error ? error.message : String(error)}\n`),
      );
  });
  await new Promise<void>((listening, failed) => server.once('error', failed).listen(addressIn(dataDir), listening));
  return server;
}

/** What runs from a folder; undefined when nothing does. */
export async function clusterState(dataDir: string): Promise<ClusterState | undefined> {
  const answer = await ask(dataDir, 'GET', '/').catch(() => undefined);
  if (answer === undefined) return undefined;
  let text = '';
  for await (const chunk of answer.setEncoding('utf8')) text += chunk as string;
  return JSON.parse(text) as ClusterState;
}

/**
 * Restarts the nodes of a running cluster one after the other.
 * @throws UsageError when none runs from the folder, or when a node did not come back
 */
export async function rollCluster(dataDir: string, say: (line: string) => void): Promise<void> {
  const answer = await ask(dataDir, 'POST', '/roll').catch(() => {
    throw new UsageError(`No cluster is running from ${resolve(dataDir)}. Start one: npm run cluster`);
  });
  let end: string | undefined;
  for await (const line of createInterface({ input: answer })) {
    end = line;
    if (line !== last.ok && !line.startsWith(last.failed)) say(line);
  }
  if (end !== last.ok) throw new UsageError(end?.slice(last.failed.length) ?? 'The cluster ended before its nodes were restarted.');
}

function ask(dataDir: string, method: string, path: string): Promise<IncomingMessage> {
  return new Promise((answered, failed) =>
    request({ socketPath: addressIn(dataDir), method, path }, answered)
      .once('error', failed)
      .end(),
  );
}
