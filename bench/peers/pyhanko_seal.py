"""Seals one document again and again with pyHanko, warm, bytes in and bytes out, and says how often.

usage: pyhanko_seal.py PDF P12 PASSPHRASE SECONDS OUT
"""

import json
import resource
import sys
import time
from io import BytesIO

from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import fields, signers

pdf, p12, passphrase, seconds, out = sys.argv[1:]
data = open(pdf, "rb").read()
signer = signers.SimpleSigner.load_pkcs12(p12, passphrase=passphrase.encode())
metadata = signers.PdfSignatureMetadata(
    field_name="Seal", subfilter=fields.SigSeedSubFilter.PADES, md_algorithm="sha256"
)


def seal():
    return signers.sign_pdf(IncrementalPdfFileWriter(BytesIO(data)), metadata, signer=signer).getvalue()


for _ in range(3):
    sealed = seal()
began, cpu, count = time.monotonic(), time.process_time(), 0
while time.monotonic() - began < float(seconds):
    sealed = seal()
    count += 1
seconds, cpu = time.monotonic() - began, time.process_time() - cpu
open(out, "wb").write(sealed)
peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"documents": count, "seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak_mib}))
