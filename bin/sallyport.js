#!/usr/bin/env node
// The one file in plain JavaScript: an older Node must be able to read it, in order to say what is wrong.
const major = Number(process.versions.node.split(".")[0]);
if (major < 24) {
  console.error(
    `sallyport needs Node 24 or later; this is ${process.version}.\n` +
      "Start it through npm in the project's folder (npm start, or npx sallyport ...): npm ci brings a Node 24 along.",
  );
  process.exit(1);
}
import("../src/cli/sallyport.ts").then(({ main }) => main(process.argv.slice(2)));
