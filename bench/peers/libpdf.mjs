// usage: node libpdf.mjs PDF P12 PASSPHRASE SECONDS OUT [complete]
// `complete` draws on every page and appends a page before it seals: the work of an envelope that is complete.

import { P12Signer, PDF } from "@libpdf/core";

import { data, key, loop, passphrase } from "./loop.mjs";

const signer = await P12Signer.create(key, passphrase);
const sign = (pdf) => pdf.sign({ signer, subFilter: "ETSI.CAdES.detached" });

const work = {
  async seal() {
    const { bytes } = await sign(await PDF.load(data));
    return bytes;
  },
  async complete() {
    const pdf = await PDF.load(data);
    for (const page of pdf.getPages()) {
      page.drawText("Signed by Ann Example", { x: 72, y: 72, size: 12 });
    }
    const certificate = pdf.addPage({ width: 595, height: 842 });
    for (let line = 0; line < 30; line += 1) {
      certificate.drawText(`Event ${line}: somebody did something at 2026-01-01 00:00:00 UTC`, { x: 50, y: 790 - 20 * line, size: 10 });
    }
    pdf.flattenAll?.();
    const { bytes } = await sign(await PDF.load(await pdf.save()));
    return bytes;
  },
};

await loop(work[process.argv[7] ?? "seal"]);
