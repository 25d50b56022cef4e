/** What both peers are as processes: told the database, they answer with their URL, and end when their parent does. */
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import pg from 'pg';

export interface ToPeer {
  readonly databaseUrl: string;
}

export interface FromPeer {
  readonly url: string;
}

/** Who a token says that it is. Neither peer checks it: how people log in is no part of what is measured. */
export interface Claims {
  readonly user_id: string;
  readonly username: string;
}

export const tokenOf = (claims: Claims): string => Buffer.from(JSON.stringify(claims)).toString('base64url');
export const claimsOf = (token: string): Claims => JSON.parse(Buffer.from(token, 'base64url').toString()) as Claims;

pg.types.setTypeParser(pg.types.builtins.INT8, Number); // seqs and ids stay below 2^53

export function servePeer(makeServer: (databaseUrl: string) => Promise<Server>): void {
  process.on('disconnect', () => process.exit());
  process.on('message', ({ databaseUrl }: ToPeer) => {
    void makeServer(databaseUrl).then(async (server) => {
      server.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 });
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      process.send?.({ url: `http://127.0.0.1:${port}` } satisfies FromPeer);
    });
  });
}
