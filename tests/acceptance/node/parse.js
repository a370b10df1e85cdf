// What the official parser finds wrong with an AsyncAPI document (severity 0 and 1), a line each.
const { readFileSync } = require("fs");
const { Parser } = require("@asyncapi/parser");

new Parser().parse(readFileSync(process.argv[2], "utf8")).then(({ document, diagnostics }) => {
  const bad = diagnostics.filter(({ severity }) => severity < 2);
  bad.forEach(({ message, path }) => console.log(`${path.join(".")}: ${message}`));
  process.exit(document && !bad.length ? 0 : 1);
});
