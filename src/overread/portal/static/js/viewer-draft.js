// What is drawn and not saved, kept in this browser: squeezed label maps, under the reader, the case and the
// object that is edited. It goes when it is saved or discarded.

const DATABASE = "overread-drawn";
const STORE = "drafts";

const answered = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

async function store(mode) {
  const asked = indexedDB.open(DATABASE, 1);
  asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
  return (await answered(asked)).transaction(STORE, mode).objectStore(STORE);
}

// Whoever is signed in: one reader's strokes are not another's. Asked once, since the sign-in may end.
let reader = null;
const whose = async (key) => {
  reader ??= fetch("/sign-in", { headers: { accept: "application/json" } })
    .then((answer) => answer.json())
    .then(({ name }) => name ?? "");
  return `${await reader}/${key}`;
};

const through = (bytes, stream) => new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer();

export async function keep(key, slices) {
  const bytes = slices[0].BYTES_PER_ELEMENT;
  const lengths = slices.map((slice) => slice.length);
  const squeezed = await through(new Blob(slices), new CompressionStream("gzip"));
  const at = Date.now();
  const name = await whose(key);
  await answered((await store("readwrite")).put({ at, bytes, lengths, squeezed }, name));
}

export async function fetchDraft(key) {
  const name = await whose(key);
  const kept = await answered((await store("readonly")).get(name));
  if (!kept) return null;
  const whole = await through(kept.squeezed, new DecompressionStream("gzip"));
  const all = kept.bytes === 1 ? new Uint8Array(whole) : new Uint16Array(whole);
  let start = 0;
  const slices = kept.lengths.map((length) => all.subarray(start, (start += length)));
  return { at: kept.at, slices };
}

export async function drop(key) {
  const name = await whose(key);
  await answered((await store("readwrite")).delete(name));
}
