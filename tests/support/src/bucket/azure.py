"""The same of Azure Blob Storage, by Azurite.

arguments: the program, and the key of its account
"""

import base64
import hashlib
import hmac
import re
import subprocess
import sys
import urllib.request
from email.utils import formatdate

ACCOUNT = "devstoreaccount1"
VERSION = "2021-08-06"
HOST = ["--blobHost", "127.0.0.1", "--blobPort", "0"]
server = subprocess.Popen(
    [sys.argv[1], *HOST, "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent"],
    stdout=subprocess.PIPE,
    text=True,
)


def call(method, **query):
    path, at = f"/{ACCOUNT}/documents", formatdate(usegmt=True)
    named = "".join(f"\n{name}:{value}" for name, value in sorted(query.items()))
    text = method + 12 * "\n" + f"x-ms-date:{at}\nx-ms-version:{VERSION}\n/{ACCOUNT}{path}{named}"
    signature = hmac.new(base64.b64decode(sys.argv[2]), text.encode(), hashlib.sha256).digest()
    shown = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
    url = f"{address}{path}?" + "&".join(f"{name}={value}" for name, value in query.items())
    headers = {"x-ms-date": at, "x-ms-version": VERSION, "Authorization": shown}
    request = urllib.request.Request(url, method=method, headers=headers)
    return urllib.request.urlopen(request, timeout=20).read().decode()


try:
    address = next(found.group() for found in map(re.compile(r"http://[\d.:]+").search, server.stdout) if found)
    call("PUT", restype="container")
    print(f"{address}/{ACCOUNT}", flush=True)
    for _ in sys.stdin:
        for name in re.findall("<Name>(.*?)</Name>", call("GET", restype="container", comp="list")):
            print(name)
        print(flush=True)
finally:
    server.kill()
