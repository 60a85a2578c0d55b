// usage: node signpdf.mjs PDF P12 PASSPHRASE SECONDS OUT

import { plainAddPlaceholder } from "@signpdf/placeholder-plain";
import { P12Signer } from "@signpdf/signer-p12";
import module from "@signpdf/signpdf";

import { data, key, loop, passphrase } from "./loop.mjs";

const signpdf = new module.SignPdf();
const placeholder = { reason: "", contactInfo: "", name: "Seal", location: "", subFilter: "ETSI.CAdES.detached", signatureLength: 16384 };

await loop(async () => {
  const prepared = plainAddPlaceholder({ pdfBuffer: data, ...placeholder });
  return signpdf.sign(prepared, new P12Signer(key, { passphrase }));
});
