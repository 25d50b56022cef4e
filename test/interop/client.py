"""A client of the socket in another language, written from docs/protocol.md alone: python client.py http://localhost:3000"""

import asyncio, json, sys, urllib.request, uuid
import websockets

BASE = sys.argv[1].rstrip("/")

def rest(path, body, token=None):
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(BASE + path, json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request, timeout=20))

def register(name):
    name = f"{name}-{uuid.uuid4().hex[:8]}"
    return rest("/auth/register", {"username": name, "email": f"{name}@example.org", "password": uuid.uuid4().hex})["tokens"]["accessToken"]

class Client:
    """Of one room; keeps what it holds over any number of connections."""

    def __init__(self, token, room):
        self.token, self.room, self.seq, self.epoch, self.log = token, room, None, None, []

    async def connect(self):
        self.socket = await websockets.connect(BASE.replace("http", "ws", 1) + "/ws")
        await self.command("auth", token=self.token)
        await self.until("hello")
        known = {} if self.seq is None else {"last_seen_seq": self.seq, "epoch": self.epoch}
        await self.command("join_room", room_id=self.room, **known)
        joined = await self.until("joined_room")
        self.epoch = joined["epoch"]
        if self.seq is None:
            self.seq = joined["last_seq"]
        else:
            while (await self.until("history"))["has_more"]:
                pass

    async def command(self, event, **data):
        await self.socket.send(json.dumps({"event": event, "id": event, "data": data}))

    async def until(self, event, where=lambda data: True):
        async with asyncio.timeout(20):
            while True:
                frame = json.loads(await self.socket.recv())
                name, data = frame["event"], frame["data"]
                assert name not in ("error", "resync"), frame
                entries = {"new_message_batch": lambda: data, "room_event": lambda: [data], "history": lambda: data["messages"] + data["events"]}
                for entry in sorted(entries.get(name, list)(), key=lambda entry: entry["seq"]):
                    assert entry["seq"] == self.seq + 1, f"{entry['seq']} came after {self.seq}"
                    self.seq = entry["seq"]
                    self.log.append(entry.get("content") or entry["kind"])
                if name == event and where(data):
                    return data

    async def say(self, content, key):
        await self.command("send_message", room_id=self.room, content=content, client_msg_id=key)
        return await self.until("message_ack", lambda ack: ack["client_msg_id"] == key)

async def main():
    ann, bob = register("ann"), register("bob")
    room = rest("/rooms", {"name": f"interop {uuid.uuid4()}"}, ann)["id"]
    client, key = Client(ann, room), str(uuid.uuid4())
    await client.connect()
    first = await client.say("one", key)
    client.socket.transport.abort()  # no close frame, as when a network is gone
    rest(f"/rooms/{room}/join", {}, bob)
    for content in ("two", "three", "four"):
        rest(f"/rooms/{room}/messages", {"content": content}, bob)
    await client.connect()
    again = await client.say("one", key)  # as if the ack had been lost
    assert again["duplicate"] and again["seq"] == first["seq"], again
    last = await client.say("five", str(uuid.uuid4()))
    while client.seq < last["seq"]:
        await client.until("new_message_batch")
    assert client.log == ["one", "joined", "two", "three", "four", "five"], client.log
    print(f"resumed after seq {first['seq']}, nothing missing, doubled or out of order: {', '.join(client.log)}")


asyncio.run(main())
