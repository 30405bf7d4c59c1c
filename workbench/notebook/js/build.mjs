// Builds what is shipped, each with the licences of what is bundled:
//   ../static               the chat widget: one ES module (anywidget takes a single file), one style sheet
//   ../../../server/static  the same chat as a page of the server, and the style sheet of its reference
//
//   node build.mjs           write both
//   node build.mjs --check   build elsewhere and fail if either differs
import { build } from "esbuild";
import { mkdtemp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

const BUNDLED = [
  { name: "marked", licence: "MIT", files: ["LICENSE"] },
  { name: "dompurify", licence: "Apache-2.0 (chosen from: MPL-2.0 OR Apache-2.0)", files: ["LICENSE"] },
  { name: "highlight.js", licence: "BSD-3-Clause", files: ["LICENSE"] },
  { name: "temml", licence: "MIT (in math.js)", files: ["LICENSE"] },
];
const NOTICES = "THIRD_PARTY_NOTICES.txt";

// in the modules they share the page has words of its own
const wordsOfThePage = {
  name: "words of the page",
  setup({ onResolve }) {
    const words = join(here, "src", "page", "wording.js");
    onResolve({ filter: /\/wording\.js$/ }, ({ importer }) => (importer === words ? null : { path: words }));
  },
};

const SHIPPED = [
  {
    folder: join(here, "..", "static"),
    files: {
      "chat.js": { entry: "src/index.js", largest: 200_000 }, // rides in every widget's saved state
      "desk.js": { entry: "src/desk/index.js", largest: 20_000 }, // loaded when it is opened first
      "math.js": { entry: "src/math/index.js", largest: 230_000 }, // with the first formula; the server's page has it too
      "chat.css": { entry: "src/css/chat.css" },
    },
  },
  {
    folder: join(here, "..", "..", "..", "server", "static"),
    files: {
      "page.js": { entry: "src/page/index.js", largest: 230_000, plugins: [wordsOfThePage] },
      "page.css": { entry: "src/css/page.css", largest: 30_000 },
      "docs.css": { entry: "src/css/docs.css", largest: 10_000 },
    },
  },
];

async function bundle(folder, files) {
  await mkdir(folder, { recursive: true });
  const banner = "/* Built from workbench/notebook/js by `npm run build`; licences: THIRD_PARTY_NOTICES.txt */";
  const shared = { absWorkingDir: here, bundle: true, minify: true, charset: "utf8", legalComments: "none", logLevel: "warning" };
  for (const [name, { entry, plugins = [] }] of Object.entries(files)) {
    const [kind, more] = name.endsWith(".js") ? ["js", { format: "esm", target: "es2022" }] : ["css", {}];
    await build({ ...shared, ...more, plugins, entryPoints: [entry], outfile: join(folder, name), banner: { [kind]: banner } });
  }
  await writeFile(join(folder, NOTICES), await notices(Object.keys(files)[0]));
}

async function notices(script) {
  const parts = [`${script} and math.js contain, besides our own code, the following libraries, unmodified but minified.\n`];
  for (const { name, licence, files } of BUNDLED) {
    const root = join(here, "node_modules", name);
    const { version, homepage } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
    const texts = await Promise.all(files.map((file) => readFile(join(root, file), "utf8")));
    parts.push(`${"=".repeat(78)}\n${name} ${version}, ${licence}\n${homepage}\n${"=".repeat(78)}\n`, ...texts);
  }
  return parts.map((part) => part.replaceAll("\r\n", "\n").trimEnd() + "\n").join("\n");
}

async function compare(built, { folder, files }) {
  for (const file of [...Object.keys(files), NOTICES]) {
    const bytes = await readFile(join(built, file));
    console.log(`${file}: ${bytes.length} bytes, ${gzipSync(bytes, { level: 9 }).length} gzip`);
    const largest = files[file]?.largest ?? Infinity;
    if (bytes.length > largest) fail(`${file} is ${bytes.length} bytes; at most ${largest} may ship`);
    if (!bytes.equals(await readFile(join(folder, file)).catch(() => Buffer.alloc(0))))
      fail(`${join(folder, file)} is not what its source builds; run \`npm ci && npm run build\` and commit the result`);
  }
}

function fail(message) {
  console.error(message);
  process.exitCode = 1;
}

for (const each of SHIPPED) {
  const checking = process.argv.includes("--check");
  const folder = checking ? await mkdtemp(join(tmpdir(), "workbench-chat-")) : each.folder;
  try {
    await bundle(folder, each.files);
    await compare(folder, each);
  } finally {
    if (checking) await rm(folder, { recursive: true });
  }
}
