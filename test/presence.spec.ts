import { PresenceService } from '../src/presence/presence.service.js';
import { graceMs } from '../src/presence/attendance.js';
import { limits } from '../src/protocol/limits.js';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, type Person } from './support/people.js';
import { startProcessNode, type ProcessNode } from './support/process-node.js';
import { startProxy } from './support/proxy.js';
import { call } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

interface OnlineList {
  online?: { user_id: string; username: string }[];
  online_count: number;
}

let db: TestDatabase;
let nodes: [TestNode, TestNode];
let ann: Person;
let bob: Person;
let cyd: Person;

beforeAll(async () => {
  db = await createTestDatabase();
  nodes = [await startNode(db.url), await startNode(db.url)];
  [ann, bob, cyd] = [await createPerson(db.sql, 'ann'), await createPerson(db.sql, 'bob'), await createPerson(db.sql, 'cyd')];
});
afterAll(async () => {
  await Promise.all(nodes.map((node) => node.close()));
  await db.drop();
});

/** A room of Ann's, Bob's and Cyd's, and what one test opens: most tests wait for seconds, and so run at the same time. */
class Scene {
  private readonly clients: TestClient[] = [];
  private readonly opened: { close(): Promise<unknown> }[] = [];

  private constructor(readonly room: string) {}

  static async set(): Promise<Scene> {
    return new Scene(await createRoom(db.sql, [ann, bob, cyd]));
  }

  async close(): Promise<void> {
    await Promise.all(this.clients.map((client) => client.close()));
    for (const one of this.opened.toReversed()) await one.close();
  }

  closeAfter<T extends { close(): Promise<unknown> }>(one: T): T {
    this.opened.push(one);
    return one;
  }

  async startProcess(env: Record<string, string> = {}): Promise<ProcessNode> {
    const node = await startProcessNode({ DATABASE_URL: db.url, ...env });
    this.opened.push({ close: () => node.stop('SIGKILL') });
    return node;
  }

  /** A new member. */
  async another(): Promise<Person> {
    const person = await createPerson(db.sql);
    await db.sql.query('SELECT join_room($1, $2, $3)', [this.room, person.id, person.name]);
    return person;
  }

  /** A socket that does not follow the room yet. */
  async open(person: Person, url: string): Promise<TestClient> {
    const client = await TestClient.connect(url, person.token);
    this.clients.push(client);
    return client;
  }

  async connect(person: Person, url: string): Promise<TestClient> {
    const client = await this.open(person, url);
    await client.join(this.room);
    return client;
  }

  async rows(): Promise<string[]> {
    const { rows } = await db.sql.query<{ username: string }>('SELECT username FROM room_presence WHERE room_id = $1 ORDER BY 1', [
      this.room,
    ]);
    return rows.map(({ username }) => username);
  }

  /** What a client was told since it joined: `+name` and `-name`. */
  told(client: TestClient): string[] {
    return client.frames
      .filter(({ event, data }) => event === 'presence' && data['room_id'] === this.room)
      .map(({ data }) => `${data['status'] === 'online' ? '+' : '-'}${String(data['username'])}`);
  }

  /** Who is online by all that a client was told. */
  shown(client: TestClient): string[] {
    const names = new Set<string>();
    for (const { event, data } of client.frames) {
      if (data['room_id'] !== this.room) continue;
      const { online } = data as unknown as OnlineList;
      if (online !== undefined) {
        names.clear();
        for (const { username } of online) names.add(username);
      }
      if (event !== 'presence') continue;
      if (data['status'] === 'online') names.add(String(data['username']));
      else names.delete(String(data['username']));
    }
    return [...names].toSorted();
  }

  async expectShown(client: TestClient, names: string[], withinMs?: number): Promise<void> {
    const wanted = names.toSorted().join();
    const isShown = (): boolean => {
      const shown = this.shown(client).join();
      if (shown !== wanted) throw new Error(`${shown} are shown, not ${wanted}`);
      return true;
    };
    await eventually(isShown, undefined, withinMs);
  }
}

const inScene = (play: (scene: Scene) => Promise<void>) => async () => {
  const scene = await Scene.set();
  try {
    await play(scene);
  } finally {
    await scene.close();
  }
};

/** New members. */
const crowdOf = async (scene: Scene, count: number): Promise<Person[]> => {
  const people = await Promise.all(Array.from({ length: count }, () => createPerson(db.sql)));
  for (const { id, name } of people) await db.sql.query('SELECT join_room($1, $2, $3)', [scene.room, id, name]);
  return people;
};

describe('who is online', () => {
  it.concurrent(
    'is told to all who follow the room on both nodes, once, and to who joins later',
    inScene(async (scene) => {
      const here = await scene.connect(ann, nodes[0].url);
      const there = await scene.connect(bob, nodes[1].url);
      await Promise.all([scene.expectShown(here, ['ann', 'bob']), scene.expectShown(there, ['ann', 'bob'])]);
      const { data } = await here.frame('presence', ({ user_id }) => user_id === bob.id);
      expect(data).toEqual({ room_id: scene.room, user_id: bob.id, username: 'bob', status: 'online' });
      const late = await scene.open(cyd, nodes[1].url);
      const joined = (await late.join(scene.room)).data as unknown as OnlineList;
      expect(joined.online_count).toBe(2);
      expect(joined.online?.toSorted((a, b) => a.username.localeCompare(b.username))).toEqual([
        { user_id: ann.id, username: 'ann' },
        { user_id: bob.id, username: 'bob' },
      ]);
      await Promise.all([here, there, late].map((client) => scene.expectShown(client, ['ann', 'bob', 'cyd'])));
      for (const client of [here, there, late]) expect(new Set(scene.told(client)).size).toBe(scene.told(client).length);
    }),
  );

  it.concurrent(
    'is shown in the list of members, to a member on any node',
    inScene(async (scene) => {
      await scene.connect(ann, nodes[0].url);
      const goes = await scene.connect(bob, nodes[1].url);
      const members = async () => {
        const { body } = await call(nodes[0].url, `/rooms/${scene.room}/members`, { token: cyd.token });
        return Object.fromEntries((body as { username: string; online: boolean }[]).map(({ username, online }) => [username, online]));
      };
      await eventually(async () => expect(await members()).toEqual({ ann: true, bob: true, cyd: false }) === undefined);
      goes.cut();
      await eventually(async () => expect(await members()).toEqual({ ann: true, bob: false, cyd: false }) === undefined);
    }),
  );

  it.concurrent(
    'is who follows the room, not who is only connected, and is told to nobody else',
    inScene(async (scene) => {
      const other = await createRoom(db.sql, [bob, cyd]);
      const stranger = await scene.open(bob, nodes[1].url);
      await stranger.join(other);
      const [here, there] = [await scene.connect(ann, nodes[0].url), await scene.connect(cyd, nodes[1].url)];
      await Promise.all([scene.expectShown(here, ['ann', 'cyd']), scene.expectShown(there, ['ann', 'cyd'])]);
      await stranger.join(scene.room);
      await scene.expectShown(here, ['ann', 'bob', 'cyd']);
      expect(
        stranger.frames.filter(({ event, data }) => event === 'presence' && data['room_id'] === scene.room && data['username'] !== 'bob'),
      ).toEqual([]);
    }),
  );

  it.concurrent(
    'changes with the first socket and after the last, on whatever nodes they are; who reconnects in time is not seen to',
    inScene(async (scene) => {
      const watcher = await scene.connect(ann, nodes[0].url);
      const sockets = [
        await scene.connect(bob, nodes[0].url),
        await scene.connect(bob, nodes[0].url),
        await scene.connect(bob, nodes[1].url),
      ];
      const reconnects = await scene.connect(cyd, nodes[1].url);
      await scene.expectShown(watcher, ['ann', 'bob', 'cyd']);
      reconnects.cut();
      const back = await scene.connect(cyd, nodes[0].url);
      for (const socket of sockets.slice(0, 2)) socket.cut();
      await sockets[2]?.command('leave_room', { room_id: scene.room });
      const at = Date.now();
      // Cyd lost her socket before Bob lost his.
      await scene.expectShown(watcher, ['ann', 'cyd'], graceMs + 3_000);
      expect(Date.now() - at).toBeGreaterThan(graceMs - 100);
      expect(
        scene
          .told(watcher)
          .filter((what) => what !== '+ann')
          .toSorted(),
      ).toEqual(['+bob', '+cyd', '-bob']);
      await back.close();
    }),
  );

  it.concurrent(
    'does not have one who is kicked or leaves, at once',
    inScene(async (scene) => {
      const [watcher, kicked, leaves] = [
        await scene.connect(ann, nodes[0].url),
        await scene.connect(bob, nodes[1].url),
        await scene.connect(cyd, nodes[1].url),
      ];
      await scene.expectShown(watcher, ['ann', 'bob', 'cyd']);
      await call(nodes[0].url, `/rooms/${scene.room}/members/${bob.id}`, { method: 'DELETE', token: ann.token });
      await call(nodes[0].url, `/rooms/${scene.room}/leave`, { method: 'POST', token: cyd.token });
      await scene.expectShown(watcher, ['ann'], 3_000);
      expect(await scene.rows()).toEqual(['ann']);
      const count = (client: TestClient) => client.frames.filter(({ event }) => event === 'presence').length;
      const [before, after] = [count(kicked), count(leaves)];
      const dan = await scene.another();
      await scene.connect(dan, nodes[1].url);
      await scene.expectShown(watcher, ['ann', dan.name]);
      expect([count(kicked), count(leaves)]).toEqual([before, after]);
    }),
  );

  it.concurrent(
    'does not change, by not one frame, when many reconnect to the other node',
    inScene(async (scene) => {
      const people = await crowdOf(scene, 60);
      const watcher = await scene.connect(ann, nodes[0].url);
      const first = await Promise.all(people.map((person) => scene.connect(person, nodes[1].url)));
      await eventually(() => scene.shown(watcher).length === 61, 'all to be shown');
      const frames = scene.told(watcher).length;
      for (const client of first) client.cut();
      await Promise.all(people.map((person) => scene.connect(person, nodes[0].url)));
      await eventually(
        async () => (await db.sql.query('SELECT FROM room_presence WHERE room_id = $1', [scene.room])).rowCount === 121,
        'both to be written',
      );
      await eventually(async () => (await scene.rows()).length === 61, 'the grace to be over', graceMs + 5_000);
      await scene.connect(bob, nodes[1].url);
      await eventually(() => scene.told(watcher).includes('+bob'), 'the next change');
      expect(scene.told(watcher)).toHaveLength(frames + 1);
    }),
    60_000,
  );
});

describe('a node', () => {
  it.concurrent(
    'that is killed has nobody online within 15 s, and leaves nothing behind',
    inScene(async (scene) => {
      const dies = await scene.startProcess();
      const [watcher, stays] = [await scene.connect(ann, nodes[0].url), await scene.connect(bob, nodes[1].url)];
      await scene.connect(bob, dies.url);
      await scene.connect(cyd, dies.url);
      await Promise.all([scene.expectShown(watcher, ['ann', 'bob', 'cyd']), scene.expectShown(stays, ['ann', 'bob', 'cyd'])]);
      const written = await db.sql.query<{ node_id: string }>('SELECT node_id FROM room_presence WHERE room_id = $1 AND user_id = $2', [
        scene.room,
        cyd.id,
      ]);
      const nodeId = written.rows[0]?.node_id;
      const at = Date.now();
      await dies.stop('SIGKILL');
      await Promise.all([scene.expectShown(watcher, ['ann', 'bob'], 15_000), scene.expectShown(stays, ['ann', 'bob'], 15_000)]);
      expect(Date.now() - at).toBeLessThan(15_000);
      expect(scene.told(watcher).filter((what) => what.startsWith('-'))).toEqual(['-cyd']);
      expect(await scene.rows()).toEqual(['ann', 'bob']);
      expect((await db.sql.query('SELECT FROM presence_nodes WHERE node_id = $1', [nodeId])).rowCount).toBe(0);
    }),
  );

  it.concurrent(
    'that is told to stop leaves its users their grace: who comes back elsewhere in time is not seen to, the others are offline',
    inScene(async (scene) => {
      const stops = await scene.startProcess({ DRAIN_MS: '0' });
      const watcher = await scene.connect(ann, nodes[0].url);
      await scene.connect(bob, stops.url);
      await scene.connect(cyd, stops.url);
      await scene.expectShown(watcher, ['ann', 'bob', 'cyd']);
      const nodeOf = async (person: Person) =>
        (
          await db.sql.query<{ node_id: string }>('SELECT node_id FROM room_presence WHERE room_id = $1 AND user_id = $2', [
            scene.room,
            person.id,
          ])
        ).rows[0]?.node_id;
      const nodeId = await nodeOf(cyd);
      const at = Date.now();
      expect(await stops.stop('SIGTERM')).toBe(0);
      // Not for the rest of a lease, as if it had died.
      const { rows } = await db.sql.query<{ ms: string }>(
        'SELECT extract(epoch FROM expires_at - now()) * 1000 AS ms FROM presence_nodes WHERE node_id = $1',
        [nodeId],
      );
      expect(Number(rows[0]?.ms)).toBeLessThanOrEqual(graceMs);
      await scene.connect(bob, nodes[1].url);
      await scene.expectShown(watcher, ['ann', 'bob'], 15_000);
      expect(Date.now() - at).toBeGreaterThan(graceMs);
      expect(
        scene
          .told(watcher)
          .filter((what) => what !== '+ann')
          .toSorted(),
      ).toEqual(['+bob', '+cyd', '-cyd']);
      expect(await scene.rows()).toEqual(['ann', 'bob']);
      expect(await nodeOf(bob)).not.toBe(nodeId);
      expect((await db.sql.query('SELECT FROM presence_nodes WHERE node_id = $1', [nodeId])).rowCount).toBe(0);
    }),
  );

  it.concurrent(
    'that lost the bus reads what it missed',
    inScene(async (scene) => {
      const proxy = scene.closeAfter(await startProxy(db.url));
      const behind = scene.closeAfter(await startNode(db.url, { DATABASE_LISTEN_URL: proxy.through(db.url) }));
      const watcher = await scene.connect(ann, behind.url);
      const goes = await scene.connect(bob, nodes[0].url);
      await scene.expectShown(watcher, ['ann', 'bob']);
      proxy.swallow();
      await goes.command('leave_room', { room_id: scene.room });
      await scene.connect(cyd, nodes[1].url);
      await eventually(async () => (await scene.rows()).join() === 'ann,cyd', 'both to be written', graceMs + 3_000);
      proxy.heal();
      await scene.expectShown(watcher, ['ann', 'cyd']);
      expect(scene.told(watcher).filter((what) => what !== '+ann')).toEqual(expect.arrayContaining(['+bob', '-bob', '+cyd']));
    }),
  );

  it.concurrent(
    'whose database is away changes nothing, and comes to what is the case when it is back',
    inScene(async (scene) => {
      const proxy = scene.closeAfter(await startProxy(db.url));
      const behind = scene.closeAfter(await startNode(proxy.through(db.url)));
      const [watcher, stays, goes] = [
        await scene.connect(ann, nodes[0].url),
        await scene.connect(bob, behind.url),
        await scene.connect(cyd, behind.url),
      ];
      await Promise.all([scene.expectShown(watcher, ['ann', 'bob', 'cyd']), scene.expectShown(stays, ['ann', 'bob', 'cyd'])]);
      proxy.swallow();
      proxy.cut();
      goes.cut();
      const dan = await scene.another();
      await scene.connect(dan, nodes[1].url);
      // For the others the node is as good as dead.
      await scene.expectShown(watcher, ['ann', dan.name], 15_000);
      expect(scene.shown(stays)).toEqual(['ann', 'bob', 'cyd']);
      proxy.heal();
      proxy.cut();
      await Promise.all([
        scene.expectShown(watcher, ['ann', 'bob', dan.name], 15_000),
        scene.expectShown(stays, ['ann', 'bob', dan.name], 20_000),
      ]);
    }),
    60_000,
  );
});

it.concurrent(
  'a socket that could not take what was told is told afresh when it can',
  inScene(async (scene) => {
    const small = scene.closeAfter(await startNode(db.url, { SOCKET_BUFFER_BYTES: '65536' }));
    const slow = await scene.connect(ann, small.url);
    await scene.expectShown(slow, ['ann']);
    slow.socket.pause();
    for (let n = 0; n < 20; n++) {
      await db.sql.query("INSERT INTO messages (room_id, user_id, content) SELECT $1, $2, repeat('x', 60000) FROM generate_series(1, 20)", [
        scene.room,
        ann.id,
      ]);
    }
    await scene.connect(bob, nodes[0].url);
    const quick = await scene.connect(cyd, small.url);
    await scene.expectShown(quick, ['ann', 'bob', 'cyd']);
    slow.socket.resume();
    await slow.frame('room_online');
    await scene.expectShown(slow, ['ann', 'bob', 'cyd']);
    expect(slow.violations).toEqual([]);
  }),
);

describe('a node by itself', () => {
  /** Whether it waits for a lease, of which it heard, to be renewed. */
  const knows = (node: TestNode, nodeId: string): boolean => {
    const lease = Reflect.get(node.app.get(PresenceService), 'lease') as { leases: { deadlines: Map<string, number> } };
    return lease.leases.deadlines.has(nodeId);
  };

  it(
    'whose lease or rows are lost, as when the server crashes, writes them anew, and nobody is told anything',
    inScene(async (scene) => {
      const [watcher, other] = [await scene.connect(ann, nodes[0].url), await scene.connect(bob, nodes[1].url)];
      await Promise.all([scene.expectShown(watcher, ['ann', 'bob']), scene.expectShown(other, ['ann', 'bob'])]);
      await eventually(async () => (await scene.rows()).length === 2, 'both to be written');
      const before = (await db.sql.query<{ node_id: string }>('SELECT node_id FROM presence_nodes')).rows.map(({ node_id }) => node_id);
      await eventually(() => before.every((id) => nodes.some((node) => knows(node, id))), 'the nodes to know each other');
      await db.sql.query('TRUNCATE presence_nodes, room_presence');
      await eventually(async () => (await scene.rows()).length === 2, 'the rows to be written anew', 10_000);
      // Each takes an old id, also its own, out of its memory when it was not renewed for the time of a lease.
      await eventually(() => nodes.every((node) => !before.some((id) => knows(node, id))), 'the old ids to be forgotten', 20_000);
      const dan = await scene.another();
      await scene.connect(dan, nodes[1].url);
      await Promise.all([scene.expectShown(watcher, ['ann', 'bob', dan.name]), scene.expectShown(other, ['ann', 'bob', dan.name])]);
      expect([...scene.told(watcher), ...scene.told(other)].filter((what) => what.startsWith('-'))).toEqual([]);
    }),
    60_000,
  );
});

describe('many', () => {
  const counters = () => nodes.map((node) => ({ ...node.app.get(PresenceService).counters }));

  it(
    'who come online make few statements and few frames; of so many only the number is told, and of few the names again',
    inScene(async (scene) => {
      const people = await crowdOf(scene, 300);
      const [watcher, there] = [await scene.connect(ann, nodes[0].url), await scene.connect(cyd, nodes[1].url)];
      await Promise.all([scene.expectShown(watcher, ['ann', 'cyd']), scene.expectShown(there, ['ann', 'cyd'])]);
      const [before, at] = [counters(), Date.now()];
      const crowd = await Promise.all(people.map((person, n) => scene.connect(person, n % 2 === 0 ? nodes[0].url : nodes[1].url)));
      for (const client of [watcher, there]) await client.frame('room_online', ({ online_count }) => online_count === 302);
      const tookMs = Date.now() - at;
      for (const [n, { statements, presence }] of counters().entries()) {
        expect(presence - (before[n]?.presence ?? 0)).toBeGreaterThanOrEqual(150);
        expect(statements - (before[n]?.statements ?? 0)).toBeLessThanOrEqual(tookMs / 200 + 2);
      }
      expect(scene.told(watcher).length).toBeLessThanOrEqual(limits.onlineListMax);
      expect(watcher.frames.filter(({ event }) => event === 'room_online').length).toBeLessThanOrEqual(tookMs / 1_000 + 2);
      expect(watcher.frames.filter(({ event, data }) => event === 'room_online' && 'online' in data)).toEqual([]);

      const late = await scene.connect(bob, nodes[1].url);
      const { online, online_count } = (await late.frame('joined_room')).data as unknown as OnlineList;
      expect(online).toHaveLength(limits.onlineListMax);
      expect(online_count).toBe(302);

      for (const client of crowd.slice(0, 260)) client.cut();
      // After the grace, and then up to the window of a crowd.
      const list = await eventually(
        () => watcher.frames.find(({ event, data }) => event === 'room_online' && 'online' in data),
        'the names again',
        20_000,
      );
      expect(list.data['online_count']).toBe(43);
      expect(scene.shown(watcher)).toHaveLength(43);
    }),
    60_000,
  );
});
