"""Talk to the annotation server over the wire: requests, and a page without a browser."""

import http.client
import itertools
import json

from websockets.sync.client import connect


def request(server, path, method="GET", body=None, cookie=True, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    if cookie:
        headers["Cookie"] = server.cookie
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()


class Client:
    """A page without a browser."""

    def __init__(self, server, name="clip", cookie=None, origin=None, page=""):
        self.socket = connect(
            f"ws://127.0.0.1:{server.port}/w/{name}/ws",
            additional_headers={"Cookie": cookie or server.cookie},
            origin=origin or f"http://127.0.0.1:{server.port}",
            max_size=None,
            ping_interval=None,  # a busy machine is no dead one
        )
        self.seq, self.state, self.masks, self.heard = 0, None, {}, []
        self.rounds, self.shown = {}, []
        self.ask("hello", page=page)

    def send(self, message, /, **content):
        self.seq += 1
        self.socket.send(json.dumps({"type": message, "seq": self.seq, **content}))
        return self.seq

    def hear(self, timeout=120):
        message = self.socket.recv(timeout)
        if isinstance(message, bytes):
            number, frame = (int.from_bytes(message[at : at + 4], "little") for at in (4, 8))
            if message[1]:
                self.preview_number, number = number, 0
            key = number, frame
            self.masks[key] = message[24:]
            return {"type": "preview" if message[1] else "mask", "key": key}
        content = json.loads(message)
        if content["type"] == "state":
            self.state = self.merged(content)
        if content["type"] == "welcome":
            self.facts = content
        self.heard.append(content["type"])
        return content

    def merged(self, changes):
        """The whole state: the server sends only the rounds, frames and objects that have changed."""
        self.rounds |= {one["number"]: one for one in changes.get("rounds", ())}
        first, runs = changes.get("shown", (0, ()))
        values = [value for value, count in runs for _ in range(count)]
        self.shown[first : first + len(values)] = values
        runs = [[value, len(list(same))] for value, same in itertools.groupby(self.shown)]
        rounds = [one for _, one in sorted(self.rounds.items()) if not one["undone"]]
        return {**(self.state or {}), **changes, "rounds": rounds, "shown": runs}

    def ask(self, message, /, **content):
        """Send, and wait for its acknowledgement; the answer's text if it was an error."""
        seq = self.send(message, **content)
        while True:
            answer = self.hear()
            if answer.get("seq") == seq:
                return answer.get("message", "")

    def until(self, condition):
        while not condition(self):
            self.hear()
        return self

    def phase(self, *phases):
        return self.until(lambda one: one.state and one.state["phase"] in phases)

    def stroke(self, key, frame=0, x=0.3, number=1):
        return self.ask("stroke", id=key, frame=frame, path=[[x, 0.5]], object_id=number)
