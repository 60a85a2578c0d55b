// usage: node libpdf.mjs PDF P12 PASSPHRASE SECONDS OUT [embedded|standard]
// The last word asks for the work of an envelope that is complete, in the order in which Documenso does it: a value on every
// page, a certificate that is a document of its own copied behind the last, all flattened, saved, read again and signed.
// `embedded` embeds the letters that are drawn, from the font files that Countersign embeds; `standard` embeds none.

import { readFileSync } from "node:fs";

import { P12Signer, PDF, rgb } from "@libpdf/core";

import { data, key, loop, passphrase } from "./loop.mjs";

const [INK, TEXT, SOFT, HAIRLINE, PANEL, GOOD] = [
  [23, 43, 119], [27, 31, 42], [98, 105, 122], [217, 221, 229], [246, 247, 250], [20, 116, 78],
].map((parts) => rgb(...parts.map((part) => part / 255)));
const MARGIN = 48;
const WIDTH = 595.28 - 2 * MARGIN;
const COLUMNS = [0, 24, 128, 268, 436];
const ZEROS = "0".repeat(64);

const signer = await P12Signer.create(key, passphrase);
const sign = (pdf) => pdf.sign({ signer, subFilter: "ETSI.CAdES.detached" });

// Font files are read once; a document wants to embed its fonts itself.
const work = process.argv[7] ?? "seal";
const file = (name) => (work === "embedded" ? readFileSync(new URL(name, import.meta.url)) : undefined);
const files = { sans: file("DejaVuSansCondensed.ttf"), title: file("PTSerif-Bold.ttf"), hand: file("MarckScript-Regular.ttf") };
const STANDARD = { sans: "Helvetica", title: "Times-Bold", hand: "Times-Italic" };
const embed = (pdf, name) => (files[name] ? pdf.embedFont(files[name]) : STANDARD[name]);

// The signature that Countersign draws: a name, a caption and a line beside them.
function drawMark(page, sans, hand) {
  const [x, y] = [0.12 * page.width, 0.07 * page.height];
  page.drawLine({ start: { x, y }, end: { x, y: y + 40 }, thickness: 0.8, color: INK });
  page.drawText("Signed by Ann Example", { x: x + 6, y: y + 36, size: 6, font: sans, color: SOFT });
  page.drawText("Ann Example", { x: x + 6, y: y + 10, size: 28, font: hand, color: INK });
}

// The page that Countersign lays out of the same facts, word for word; where lines begin and end is known here.
function drawCertificate(page, sans, title) {
  const text = (x, top, size, words, font = sans, color = TEXT) =>
    page.drawText(words, { x: MARGIN + x, y: 841.89 - top, size, font, color });
  const fill = (x, top, width, height, color) =>
    page.drawRectangle({ x: MARGIN + x, y: 841.89 - top - height, width, height, color });
  const fact = (x, top, label, value) => {
    text(x, top, 7.6, label, sans, SOFT);
    text(x + 104, top, 8.2, value);
  };
  text(0, 40, 8.2, "Bench Ltd");
  text(440, 40, 7.2, "Audit certificate", sans, SOFT);
  fill(0, 48, WIDTH, 0.6, HAIRLINE);
  text(0, 92, 23, "Certificate of completion", title);
  fill(440, 76, 58, 15, PANEL);
  text(447, 87, 7.6, "Completed", sans, GOOD);
  text(0, 112, 11.5, "Bench", sans, SOFT);
  fact(0, 136, "Envelope", "env_bench");
  text(0, 172, 12.5, "Document", title);
  fill(0, 182, WIDTH, 0.6, HAIRLINE);
  text(0, 196, 9.4, "Paper", title);
  text(470, 196, 7.6, "1 page", sans, SOFT);
  fact(0, 210, "SHA-256", ZEROS);
  text(0, 246, 12.5, "Recipients", title);
  fill(0, 256, WIDTH, 64, PANEL);
  fill(0, 256, 2.5, 64, GOOD);
  text(12, 276, 10.5, "Ann Example", title);
  text(400, 276, 7.6, "Signer", sans, SOFT);
  text(447, 276, 7.6, "Signed", sans, GOOD);
  fact(12, 292, "E-mail", "ann@example.com");
  fact(12, 306, "Signed", "2026-01-01 00:00:00 UTC");
  text(0, 352, 12.5, "History", title);
  ["#", "Time (UTC)", "Event", "By", "Hash"].forEach((word, column) => text(COLUMNS[column], 370, 7.6, word, sans, SOFT));
  fill(0, 375, WIDTH, 0.8, SOFT);
  for (let step = 1; step <= 20; step += 1) {
    const top = 372 + 15 * step;
    const cells = [`${step}`, "2026-01-01 00:00:00", "Somebody did something", "Ann Example", "0123456789ab"];
    cells.forEach((words, column) => text(COLUMNS[column], top, 7.4, words));
    fill(0, top + 4, WIDTH, 0.5, HAIRLINE);
  }
  fact(0, 700, "Hash of the last", ZEROS);
  fill(0, 794, WIDTH, 0.6, HAIRLINE);
  text(0, 807, 7.2, "Envelope env_bench", sans, SOFT);
  text(460, 807, 7.2, "Page 1 of 1", sans, SOFT);
}

async function seal() {
  const { bytes } = await sign(await PDF.load(data));
  return bytes;
}

async function complete() {
  const certificate = PDF.create();
  drawCertificate(certificate.addPage({ width: 595.28, height: 841.89 }), embed(certificate, "sans"), embed(certificate, "title"));
  // Makes the font's objects, which a copy needs: saving and loading it again would do the same, and cost more.
  certificate.fonts.finalize(true);

  const pdf = await PDF.load(data);
  const [sans, hand] = [embed(pdf, "sans"), embed(pdf, "hand")];
  for (const page of pdf.getPages()) drawMark(page, sans, hand);
  await pdf.copyPagesFrom(certificate, [0]);
  pdf.flattenAll();
  const { bytes } = await sign(await PDF.load(await pdf.save({ subsetFonts: true })));
  return bytes;
}

await loop(work === "seal" ? seal : complete);
