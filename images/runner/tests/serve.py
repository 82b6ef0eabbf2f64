"""Model servers and a Hub for the runner's Pods, until standard input ends. Needs nothing but Python.

Reads one line of JSON: `host` to listen on, `models`: the keys that each model server takes, `tokens`: those that the Hub
takes. Keys come that way, as a command line is read by everybody. Answers with one line: `models` and `hub`, the URLs.
"""

import json
import sys

from hub_server import Hub
from model_server import Server

wanted = json.loads(sys.stdin.readline())
servers = [Server(set(keys), host=wanted["host"]) for keys in wanted["models"]]
hub = Hub(set(wanted["tokens"]), wanted["host"])
print(json.dumps({"models": [server.url for server in servers], "hub": hub.url}), flush=True)
sys.stdin.read()
