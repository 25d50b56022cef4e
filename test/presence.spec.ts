import { PresenceService } from '../src/presence/presence.service.js';
import { graceMs } from '../src/presence/attendance.js';
import { limits } from '../src/protocol/limits.js';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, type Person } from './support/people.js';
import { startProcessNode } from './support/process-node.js';
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
let room: string;
let clients: TestClient[] = [];
/** Nodes and proxies of one test, the last one opened first. */
let opened: { close(): Promise<unknown> }[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
  nodes = [await startNode(db.url), await startNode(db.url)];
  [ann, bob, cyd] = [await createPerson(db.sql, 'ann'), await createPerson(db.sql, 'bob'), await createPerson(db.sql, 'cyd')];
});
beforeEach(async () => {
  room = await createRoom(db.sql, [ann, bob, cyd]);
});
afterEach(async () => {
  await Promise.all(clients.map((client) => client.close()));
  for (const one of opened.toReversed()) await one.close();
  clients = [];
  opened = [];
});
afterAll(async () => {
  await Promise.all(nodes.map((node) => node.close()));
  await db.drop();
});

const connect = async (person: Person, url: string): Promise<TestClient> => {
  const client = await TestClient.connect(url, person.token);
  clients.push(client);
  await client.join(room);
  return client;
};
const closedAfter = <T extends { close(): Promise<unknown> }>(one: T): T => {
  opened.push(one);
  return one;
};
const startProcess = async (env: Record<string, string> = {}) => {
  const node = await startProcessNode({ DATABASE_URL: db.url, ...env });
  opened.push({ close: () => node.stop('SIGKILL') });
  return node;
};
/** A new member of the room. */
const another = async (): Promise<Person> => {
  const person = await createPerson(db.sql, `dan-${opened.length}-${clients.length}-${Date.now()}`);
  await db.sql.query('SELECT join_room($1, $2, $3)', [room, person.id, person.name]);
  return person;
};
/** What a client was told of the room since it joined: `+name` and `-name`. */
const told = (client: TestClient): string[] =>
  client.frames
    .filter(({ event, data }) => event === 'presence' && data['room_id'] === room)
    .map(({ data }) => `${data['status'] === 'online' ? '+' : '-'}${String(data['username'])}`);
/** Who is online by all that a client was told, as it would be shown. */
const shown = (client: TestClient): string[] => {
  const names = new Set<string>();
  for (const { event, data } of client.frames) {
    const { online } = data as unknown as OnlineList;
    if (data['room_id'] === room && online !== undefined) {
      names.clear();
      for (const { username } of online) names.add(username);
    }
    if (event !== 'presence' || data['room_id'] !== room) continue;
    if (data['status'] === 'online') names.add(String(data['username']));
    else names.delete(String(data['username']));
  }
  return [...names].toSorted();
};
const expectShown = (client: TestClient, names: string[], withinMs?: number) =>
  eventually(() => expect(shown(client)).toEqual(names) === undefined, `${names.join()} to be shown`, withinMs);
const rows = async (roomId = room): Promise<string[]> => {
  const found = await db.sql.query<{ username: string }>('SELECT username FROM room_presence WHERE room_id = $1 ORDER BY 1', [roomId]);
  return found.rows.map(({ username }) => username);
};

describe('who is online', () => {
  it('is told to all who follow the room on both nodes, once, and to who joins later', async () => {
    const here = await connect(ann, nodes[0].url);
    const there = await connect(bob, nodes[1].url);
    await Promise.all([expectShown(here, ['ann', 'bob']), expectShown(there, ['ann', 'bob'])]);
    const { data } = await here.frame('presence', ({ user_id }) => user_id === bob.id);
    expect(data).toEqual({ room_id: room, user_id: bob.id, username: 'bob', status: 'online' });
    const late = await TestClient.connect(nodes[1].url, cyd.token);
    clients.push(late);
    const joined = (await late.join(room)).data as unknown as OnlineList;
    expect(joined.online_count).toBe(2);
    expect(joined.online?.toSorted((a, b) => a.username.localeCompare(b.username))).toEqual([
      { user_id: ann.id, username: 'ann' },
      { user_id: bob.id, username: 'bob' },
    ]);
    await Promise.all([here, there, late].map((client) => expectShown(client, ['ann', 'bob', 'cyd'])));
    for (const client of [here, there, late]) expect(new Set(told(client)).size).toBe(told(client).length);
  });

  it('is shown in the list of members, to a member on any node', async () => {
    await connect(ann, nodes[0].url);
    const goes = await connect(bob, nodes[1].url);
    const members = async () => {
      const { body } = await call(nodes[0].url, `/rooms/${room}/members`, { token: cyd.token });
      return Object.fromEntries((body as { username: string; online: boolean }[]).map(({ username, online }) => [username, online]));
    };
    await eventually(async () => expect(await members()).toEqual({ ann: true, bob: true, cyd: false }) === undefined);
    goes.cut();
    await eventually(async () => expect(await members()).toEqual({ ann: true, bob: false, cyd: false }) === undefined);
  });

  it('is who follows the room, not who is only connected, and is told to nobody else', async () => {
    const other = await createRoom(db.sql, [bob, cyd]);
    const stranger = await TestClient.connect(nodes[1].url, bob.token);
    clients.push(stranger);
    await stranger.join(other);
    const [here, there] = [await connect(ann, nodes[0].url), await connect(cyd, nodes[1].url)];
    await Promise.all([expectShown(here, ['ann', 'cyd']), expectShown(there, ['ann', 'cyd'])]);
    await stranger.join(room);
    await expectShown(here, ['ann', 'bob', 'cyd']);
    expect(
      stranger.frames.filter(({ event, data }) => event === 'presence' && data['room_id'] === room && data['username'] !== 'bob'),
    ).toEqual([]);
  });

  it('changes with the first socket and after the last, on whatever nodes they are; who reconnects in time is not seen to', async () => {
    const watcher = await connect(ann, nodes[0].url);
    const sockets = [await connect(bob, nodes[0].url), await connect(bob, nodes[0].url), await connect(bob, nodes[1].url)];
    const reconnects = await connect(cyd, nodes[1].url);
    await expectShown(watcher, ['ann', 'bob', 'cyd']);
    reconnects.cut();
    const back = await connect(cyd, nodes[0].url);
    for (const socket of sockets.slice(0, 2)) socket.cut();
    await sockets[2]?.command('leave_room', { room_id: room });
    const at = Date.now();
    // Cyd lost her socket before Bob lost his.
    await expectShown(watcher, ['ann', 'cyd'], graceMs + 3_000);
    expect(Date.now() - at).toBeGreaterThan(graceMs - 100);
    expect(
      told(watcher)
        .filter((what) => what !== '+ann')
        .toSorted(),
    ).toEqual(['+bob', '+cyd', '-bob']);
    await back.close();
  });

  it('does not have one who is kicked or leaves, at once', async () => {
    const [watcher, kicked, leaves] = [
      await connect(ann, nodes[0].url),
      await connect(bob, nodes[1].url),
      await connect(cyd, nodes[1].url),
    ];
    await expectShown(watcher, ['ann', 'bob', 'cyd']);
    await call(nodes[0].url, `/rooms/${room}/members/${bob.id}`, { method: 'DELETE', token: ann.token });
    await call(nodes[0].url, `/rooms/${room}/leave`, { method: 'POST', token: cyd.token });
    await expectShown(watcher, ['ann'], 3_000);
    expect(await rows()).toEqual(['ann']);
    const count = (client: TestClient) => client.frames.filter(({ event }) => event === 'presence').length;
    const [before, after] = [count(kicked), count(leaves)];
    const dan = await another();
    await connect(dan, nodes[1].url);
    await expectShown(watcher, ['ann', dan.name]);
    expect([count(kicked), count(leaves)]).toEqual([before, after]);
  });
});

describe('a node', () => {
  it('that is killed has nobody online within 15 s, and leaves nothing behind', async () => {
    const dies = await startProcess();
    const [watcher, stays] = [await connect(ann, nodes[0].url), await connect(bob, nodes[1].url)];
    await connect(bob, dies.url);
    await connect(cyd, dies.url);
    await Promise.all([expectShown(watcher, ['ann', 'bob', 'cyd']), expectShown(stays, ['ann', 'bob', 'cyd'])]);
    const at = Date.now();
    await dies.stop('SIGKILL');
    await Promise.all([expectShown(watcher, ['ann', 'bob'], 15_000), expectShown(stays, ['ann', 'bob'], 15_000)]);
    expect(Date.now() - at).toBeLessThan(15_000);
    expect(told(watcher).filter((what) => what.startsWith('-'))).toEqual(['-cyd']);
    expect(await rows()).toEqual(['ann', 'bob']);
    expect((await db.sql.query('SELECT FROM presence_nodes')).rowCount).toBe(2);
  });

  it('that is told to stop leaves its users their grace: who comes back elsewhere in time is not seen to, the others are offline', async () => {
    const stops = await startProcess({ DRAIN_MS: '0' });
    const watcher = await connect(ann, nodes[0].url);
    await connect(bob, stops.url);
    await connect(cyd, stops.url);
    await expectShown(watcher, ['ann', 'bob', 'cyd']);
    expect(await stops.stop('SIGTERM')).toBe(0);
    await connect(bob, nodes[1].url);
    await expectShown(watcher, ['ann', 'bob'], 15_000);
    expect(
      told(watcher)
        .filter((what) => what !== '+ann')
        .toSorted(),
    ).toEqual(['+bob', '+cyd', '-cyd']);
  });

  it('whose lease or rows are lost, as when the server crashes, writes them anew, and nobody is told anything', async () => {
    const [watcher, other] = [await connect(ann, nodes[0].url), await connect(bob, nodes[1].url)];
    await Promise.all([expectShown(watcher, ['ann', 'bob']), expectShown(other, ['ann', 'bob'])]);
    await eventually(async () => (await rows()).length === 2, 'both to be written');
    const before = (await db.sql.query<{ node_id: string }>('SELECT node_id FROM presence_nodes')).rows.map(({ node_id }) => node_id);
    await eventually(() => before.every((id) => nodes.some((node) => knows(node, id))), 'the nodes to know each other');
    await db.sql.query('TRUNCATE presence_nodes, room_presence');
    await eventually(async () => (await rows()).length === 2, 'the rows to be written anew', 10_000);
    // Each takes an old id, also its own, out of its memory when it was not renewed for the time of a lease.
    await eventually(() => nodes.every((node) => !before.some((id) => knows(node, id))), 'the old ids to be forgotten', 20_000);
    const dan = await another();
    await connect(dan, nodes[1].url);
    await Promise.all([expectShown(watcher, ['ann', 'bob', dan.name]), expectShown(other, ['ann', 'bob', dan.name])]);
    expect([...told(watcher), ...told(other)].filter((what) => what.startsWith('-'))).toEqual([]);
  }, 60_000);

  it('that lost the bus reads what it missed', async () => {
    const proxy = closedAfter(await startProxy(db.url));
    const behind = closedAfter(await startNode(db.url, { DATABASE_LISTEN_URL: proxy.through(db.url) }));
    const watcher = await connect(ann, behind.url);
    const goes = await connect(bob, nodes[0].url);
    await expectShown(watcher, ['ann', 'bob']);
    proxy.swallow();
    await goes.command('leave_room', { room_id: room });
    await connect(cyd, nodes[1].url);
    await eventually(async () => (await rows()).join() === 'ann,cyd', 'both to be written', graceMs + 3_000);
    proxy.heal();
    await expectShown(watcher, ['ann', 'cyd']);
    expect(told(watcher).filter((what) => what !== '+ann')).toEqual(expect.arrayContaining(['+bob', '-bob', '+cyd']));
  });

  it('whose database is away changes nothing, and comes to what is the case when it is back', async () => {
    const proxy = closedAfter(await startProxy(db.url));
    const behind = closedAfter(await startNode(proxy.through(db.url)));
    const [watcher, stays, goes] = [await connect(ann, nodes[0].url), await connect(bob, behind.url), await connect(cyd, behind.url)];
    await Promise.all([expectShown(watcher, ['ann', 'bob', 'cyd']), expectShown(stays, ['ann', 'bob', 'cyd'])]);
    proxy.swallow();
    proxy.cut();
    goes.cut();
    const dan = await another();
    await connect(dan, nodes[1].url);
    // For the others the node is as good as dead.
    await expectShown(watcher, ['ann', dan.name], 15_000);
    expect(shown(stays)).toEqual(['ann', 'bob', 'cyd']);
    proxy.heal();
    proxy.cut();
    await Promise.all([expectShown(watcher, ['ann', 'bob', dan.name], 15_000), expectShown(stays, ['ann', 'bob', dan.name], 20_000)]);
  }, 60_000);

  /** Whether it waits for a lease, of which it heard, to be renewed. */
  const knows = (node: TestNode, nodeId: string): boolean => {
    const lease = Reflect.get(node.app.get(PresenceService), 'lease') as { leases: { deadlines: Map<string, number> } };
    return lease.leases.deadlines.has(nodeId);
  };
});

describe('many', () => {
  const crowdOf = async (count: number): Promise<Person[]> => {
    const people = await Promise.all(Array.from({ length: count }, () => createPerson(db.sql)));
    for (const { id, name } of people) await db.sql.query('SELECT join_room($1, $2, $3)', [room, id, name]);
    return people;
  };
  const counters = () => nodes.map((node) => ({ ...node.app.get(PresenceService).counters }));

  it('who come online make few statements and few frames; of so many only the number is told, and of few the names again', async () => {
    const people = await crowdOf(300);
    const [watcher, there] = [await connect(ann, nodes[0].url), await connect(cyd, nodes[1].url)];
    await Promise.all([expectShown(watcher, ['ann', 'cyd']), expectShown(there, ['ann', 'cyd'])]);
    const [before, at] = [counters(), Date.now()];
    const crowd = await Promise.all(people.map((person, n) => connect(person, n % 2 === 0 ? nodes[0].url : nodes[1].url)));
    for (const client of [watcher, there]) await client.frame('room_online', ({ online_count }) => online_count === 302);
    const tookMs = Date.now() - at;
    for (const [n, { statements, presence }] of counters().entries()) {
      expect(presence - (before[n]?.presence ?? 0)).toBeGreaterThanOrEqual(150);
      expect(statements - (before[n]?.statements ?? 0)).toBeLessThanOrEqual(tookMs / 200 + 2);
    }
    expect(told(watcher).length).toBeLessThanOrEqual(limits.onlineListMax);
    expect(watcher.frames.filter(({ event }) => event === 'room_online').length).toBeLessThanOrEqual(tookMs / 1_000 + 2);
    expect(watcher.frames.filter(({ event, data }) => event === 'room_online' && 'online' in data)).toEqual([]);

    const late = await connect(bob, nodes[1].url);
    const { online, online_count } = (await late.frame('joined_room')).data as unknown as OnlineList;
    expect(online).toHaveLength(limits.onlineListMax);
    expect(online_count).toBe(302);

    for (const client of crowd.slice(0, 260)) client.cut();
    const list = await watcher.frame('room_online', ({ online: named }) => named !== undefined);
    expect(list.data['online_count']).toBe(43);
    expect(shown(watcher)).toHaveLength(43);
  }, 60_000);

  it('who all reconnect to the other node make not one frame', async () => {
    const people = await crowdOf(60);
    const watcher = await connect(ann, nodes[0].url);
    const first = await Promise.all(people.map((person) => connect(person, nodes[1].url)));
    await eventually(() => shown(watcher).length === 61, 'all to be shown');
    const frames = told(watcher).length;
    for (const client of first) client.cut();
    await Promise.all(people.map((person) => connect(person, nodes[0].url)));
    await eventually(
      async () => (await db.sql.query('SELECT FROM room_presence WHERE room_id = $1', [room])).rowCount === 121,
      'both to be written',
    );
    await eventually(async () => (await rows()).length === 61, 'the grace to be over', graceMs + 5_000);
    await connect(bob, nodes[1].url);
    await eventually(() => told(watcher).includes('+bob'), 'the next change');
    expect(told(watcher)).toHaveLength(frames + 1);
  }, 60_000);
});

it('a socket that could not take what was told is told afresh when it can', async () => {
  const small = closedAfter(await startNode(db.url, { SOCKET_BUFFER_BYTES: '65536' }));
  const slow = await connect(ann, small.url);
  await expectShown(slow, ['ann']);
  slow.socket.pause();
  for (let n = 0; n < 20; n++) {
    await db.sql.query("INSERT INTO messages (room_id, user_id, content) SELECT $1, $2, repeat('x', 60000) FROM generate_series(1, 20)", [
      room,
      ann.id,
    ]);
  }
  await connect(bob, nodes[0].url);
  const quick = await connect(cyd, small.url);
  await expectShown(quick, ['ann', 'bob', 'cyd']);
  slow.socket.resume();
  await slow.frame('room_online');
  await expectShown(slow, ['ann', 'bob', 'cyd']);
  expect(slow.violations).toEqual([]);
});
