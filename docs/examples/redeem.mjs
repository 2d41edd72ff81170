// Redeem a coupon for an order, and repeat for as long as repeating can help (Node 18 or newer).
//   API=http://127.0.0.1:8000/api/v1 KEY=... node redeem.mjs CODE ORDER

const ATTEMPTS = 10;
const REPEAT = new Set([429, 503]); // the rest is an answer, also `held` with its Retry-After: no customer waits for that

export async function redeem(api, key, code, order) {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    let waitSec = 1;
    try {
      const answer = await fetch(`${api}/redemptions`, {
        method: "POST",
        headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
        body: JSON.stringify({ code, order_ref: order }),
        signal: AbortSignal.timeout(5000),
      });
      const document = await answer.json();
      if (answer.ok) return document;
      if (!REPEAT.has(answer.status)) throw new Refused(document);
      waitSec = Number(answer.headers.get("Retry-After") ?? waitSec);
    } catch (error) {
      // A time-out, a broken connection: it may be redeemed, the repeat gets the same redemption.
      if (error instanceof Refused) throw error;
    }
    await new Promise((resume) => setTimeout(resume, waitSec * 1000));
  }
  throw new Error(`no answer after ${ATTEMPTS} attempts`);
}

export class Refused extends Error {
  constructor(problem) {
    super(problem.code);
    this.problem = problem;
  }
}

if (globalThis.process?.argv[1]?.endsWith("redeem.mjs")) {
  const [code, order] = process.argv.slice(2);
  try {
    console.log(JSON.stringify(await redeem(process.env.API, process.env.KEY, code, order)));
  } catch (error) {
    console.error(error instanceof Refused ? JSON.stringify(error.problem) : error.message);
    process.exitCode = 1;
  }
}
