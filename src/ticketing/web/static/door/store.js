// What the device keeps of one event, in IndexedDB.

const STORES = { about: undefined, tickets: "id", journal: "scanId" };

/** Open the store of an event. */
export async function open(event) {
  const asked = indexedDB.open(`door-${event}`, 1);
  asked.onupgradeneeded = () => {
    for (const [name, keyPath] of Object.entries(STORES)) {
      asked.result.createObjectStore(name, keyPath && { keyPath });
    }
  };
  return new Store(await done(asked));
}

/** Remove everything that the device keeps of an event. */
export const remove = (event) => done(indexedDB.deleteDatabase(`door-${event}`));

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

class Store {
  constructor(database) {
    this.database = database;
  }

  /** Return everything in a store. */
  all(name) {
    return done(this.database.transaction(name).objectStore(name).getAll());
  }

  get(key) {
    return done(this.database.transaction("about").objectStore("about").get(key));
  }

  set(key, value) {
    return this.write("about", (store) => store.put(value, key));
  }

  /** Write in one transaction, which is on the disk when this returns. */
  write(name, work) {
    return new Promise((resolve, reject) => {
      const transaction = this.database.transaction(name, "readwrite", { durability: "strict" });
      transaction.oncomplete = () => resolve();
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
      work(transaction.objectStore(name));
    });
  }

  close() {
    this.database.close();
  }
}
