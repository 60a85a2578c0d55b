// Calls `seal` again and again, and says how often. Before, it is called for as long: what is compiled on the way is compiled then.

import { readFileSync, writeFileSync } from "node:fs";

export const [pdf, p12, passphrase, seconds, out] = process.argv.slice(2);
export const data = readFileSync(pdf);
export const key = readFileSync(p12);

export async function loop(seal) {
  const [length, start] = [Number(seconds) * 1000, performance.now()];
  let sealed;
  for (let calls = 0; calls < 3 || performance.now() - start < length; calls += 1) sealed = await seal();
  const [began, cpu] = [performance.now(), process.cpuUsage()];
  let documents = 0;
  while (performance.now() - began < length) {
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
