// Loaded into Azurite before its own code: makes an acknowledged write one that survives SIGKILL.
//
// Azurite keeps what blobs there are in a lokijs database that it writes to disk every five seconds, so that a killed server
// forgets what it has acknowledged; a store that did so would be broken, not crashed. Here every answer to a request that
// changes something waits until the databases are on disk.

"use strict";

const fs = require("fs");
const http = require("http");
const { createRequire } = require("module");

const Loki = createRequire(fs.realpathSync(process.argv[1]))("lokijs");
const databases = new Set();

// Each saves itself once when the server starts.
const saveDatabase = Loki.prototype.saveDatabase;
Loki.prototype.saveDatabase = function (...words) {
  databases.add(this);
  return saveDatabase.apply(this, words);
};

const save = (database) =>
  new Promise((resolve, reject) => database.saveDatabase((error) => (error ? reject(error) : resolve())));
const isReading = new Set(["GET", "HEAD", "OPTIONS"]);

const end = http.ServerResponse.prototype.end;
http.ServerResponse.prototype.end = function (...words) {
  if (isReading.has(this.req.method)) return end.apply(this, words);
  Promise.all([...databases].map(save)).then(
    () => end.apply(this, words),
    (error) => this.destroy(error),
  );
  return this;
};
