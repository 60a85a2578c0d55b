"""A server of S3 with the bucket `documents`: tells its address, and the keys of all objects for each line that it reads."""

import sys

import boto3
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
address = "http://%s:%s" % server.get_host_and_port()
secret = {"region_name": "us-east-1", "aws_access_key_id": "x", "aws_secret_access_key": "x"}
client = boto3.client("s3", endpoint_url=address, **secret)
client.create_bucket(Bucket="documents")
print(address, flush=True)
for _ in sys.stdin:
    for found in client.list_objects_v2(Bucket="documents").get("Contents", []):
        print(found["Key"])
    print(flush=True)
