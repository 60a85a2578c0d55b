// Calls `seal` again and again, warm, and says how often.

import { readFileSync, writeFileSync } from "node:fs";

export const [pdf, p12, passphrase, seconds, out] = process.argv.slice(2);
export const data = readFileSync(pdf);
export const key = readFileSync(p12);

export async function loop(seal) {
  let sealed;
  for (let warm = 0; warm < 3; warm += 1) sealed = await seal();
  const [began, cpu] = [performance.now(), process.cpuUsage()];
  let documents = 0;
  while (performance.now() - began < Number(seconds) * 1000) {
    sealed = await seal();
    documents += 1;
  }
  const used = process.cpuUsage(cpu);
  const result = {
    documents,
    seconds: (performance.now() - began) / 1000,
    cpu_seconds: (used.user + used.system) / 1e6,
    peak_mib: process.resourceUsage().maxRSS / 1024,
  };
  writeFileSync(out, sealed);
  console.log(JSON.stringify(result));
}
