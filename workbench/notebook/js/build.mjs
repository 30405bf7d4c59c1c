// Builds ../static: one ES module (anywidget takes a single file), one style sheet, the licences of what is bundled.
//   node build.mjs           write ../static
//   node build.mjs --check   build elsewhere and fail if ../static differs
import { build } from "esbuild";
import { mkdtemp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const shipped = join(here, "..", "static");
const LARGEST = 165_000; // bytes of chat.js: it rides in every widget's saved state

const BUNDLED = [
  { name: "marked", licence: "MIT", files: ["LICENSE"] },
  { name: "dompurify", licence: "Apache-2.0 (chosen from: MPL-2.0 OR Apache-2.0)", files: ["LICENSE"] },
  { name: "highlight.js", licence: "BSD-3-Clause", files: ["LICENSE"] },
];

async function bundle(folder) {
  await mkdir(folder, { recursive: true });
  const shared = { absWorkingDir: here, bundle: true, minify: true, charset: "utf8", legalComments: "none", logLevel: "warning" };
  const banner = "/* Built from workbench/notebook/js by `npm run build`; licences: THIRD_PARTY_NOTICES.txt */";
  await build({
    ...shared,
    entryPoints: ["src/index.js"],
    outfile: join(folder, "chat.js"),
    format: "esm",
    target: "es2022",
    banner: { js: banner },
  });
  await build({ ...shared, entryPoints: ["src/css/chat.css"], outfile: join(folder, "chat.css"), banner: { css: banner } });
  await writeFile(join(folder, "THIRD_PARTY_NOTICES.txt"), await notices());
}

async function notices() {
  const parts = ["chat.js contains, besides our own code, the following libraries, unmodified but minified.\n"];
  for (const { name, licence, files } of BUNDLED) {
    const root = join(here, "node_modules", name);
    const { version, homepage } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
    const texts = await Promise.all(files.map((file) => readFile(join(root, file), "utf8")));
    parts.push(`${"=".repeat(78)}\n${name} ${version}, ${licence}\n${homepage}\n${"=".repeat(78)}\n`, ...texts);
  }
  return parts.map((part) => part.replaceAll("\r\n", "\n").trimEnd() + "\n").join("\n");
}

const FILES = ["chat.js", "chat.css", "THIRD_PARTY_NOTICES.txt"];
const checking = process.argv.includes("--check");
const folder = checking ? await mkdtemp(join(tmpdir(), "workbench-chat-")) : shipped;
try {
  await bundle(folder);
  for (const file of FILES) {
    const bytes = await readFile(join(folder, file));
    console.log(`${file}: ${bytes.length} bytes, ${gzipSync(bytes, { level: 9 }).length} gzip`);
    if (file === "chat.js" && bytes.length > LARGEST) fail(`${file} is ${bytes.length} bytes; at most ${LARGEST} may ship`);
    if (checking && !bytes.equals(await readFile(join(shipped, file)).catch(() => Buffer.alloc(0))))
      fail(`static/${file} is not what its source builds; run \`npm ci && npm run build\` and commit the result`);
  }
} finally {
  if (checking) await rm(folder, { recursive: true });
}

function fail(message) {
  console.error(message);
  process.exitCode = 1;
}
