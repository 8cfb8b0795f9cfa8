// Reads codes of tickets without network. docs/ticket-code.md has the format.

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:";
const PREFIX = "TKT1:";
const SIZE = 103;
const SIGNED = 39;

function base45(text) {
  const data = [];
  for (let place = 0; place < text.length; place += 3) {
    const digits = [...text.slice(place, place + 3)].map((each) => ALPHABET.indexOf(each));
    const number = digits.reduceRight((sum, digit) => sum * 45 + digit, 0);
    if (digits.includes(-1) || digits.length < 2 || number >= 256 ** (digits.length - 1)) return null;
    data.push(...(digits.length === 3 ? [number >> 8, number & 255] : [number]));
  }
  return new Uint8Array(data);
}

/** Return the event, the ticket and the generation that the code names, or null. */
export async function read(code, keys) {
  const data = code.startsWith(PREFIX) ? base45(code.slice(PREFIX.length)) : null;
  if (data?.length !== SIZE || data[0] !== 1) return null;
  const view = new DataView(data.buffer);
  const jwk = keys.find((each) => each.kid === String(view.getUint16(1)));
  if (!jwk) return null;
  const { kty, crv, x } = jwk;
  const key = await crypto.subtle.importKey("jwk", { kty, crv, x }, "Ed25519", false, ["verify"]);
  const context = new TextEncoder().encode("ticketing: ticket code\n");
  const signed = new Uint8Array([...context, ...data.slice(0, SIGNED)]);
  if (!(await crypto.subtle.verify("Ed25519", key, data.slice(SIGNED), signed))) return null;
  const hex = [...data.slice(11, 27)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return {
    event: Number(view.getBigUint64(3)),
    ticket: hex.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-"),
    generation: view.getUint32(27),
  };
}
