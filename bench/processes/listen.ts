/** LISTENs on the bus with a client of its own, and drops what it hears: the least that hearing costs. */
import pg from 'pg';
import { channel } from '../../src/bus/listener.js';
import { serveCalls } from '../calls.js';

const heard = { payloads: 0, characters: 0 };

const calls = {
  async listen({ databaseUrl }: { readonly databaseUrl: string }): Promise<void> {
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    client.on('notification', ({ payload = '' }) => {
      heard.payloads++;
      heard.characters += payload.length;
    });
    await client.query(`LISTEN ${channel}`);
  },

  async heard(): Promise<typeof heard> {
    return heard;
  },
};

export type ListenCalls = typeof calls;

serveCalls(calls);
