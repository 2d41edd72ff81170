// Apply for a coupon, and repeat for as long as repeating can help (Node 18 or newer, or a browser).
//   API=http://127.0.0.1:8000/api/v1 TOKEN=... node apply.mjs CAMPAIGN USER

const ATTEMPTS = 60;
const REPEAT = new Set([429, 503]); // and whatever says when to come back: not open yet, paused

export async function apply(api, token, campaign, user) {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    let waitSec = 1;
    try {
      const answer = await fetch(`${api}/campaigns/${campaign}/apply`, {
        method: "POST",
        headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
        body: JSON.stringify({ user_id: user }),
        signal: AbortSignal.timeout(5000),
      });
      const document = await answer.json();
      if (answer.ok) return document;
      const told = answer.headers.get("Retry-After");
      if (told === null && !REPEAT.has(answer.status)) throw new Refused(document);
      waitSec = Number(told ?? waitSec);
    } catch (error) {
      // A time-out, a broken connection: the place may have been taken, the repeat tells.
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

if (globalThis.process?.argv[1]?.endsWith("apply.mjs")) {
  const [campaign, user] = process.argv.slice(2);
  try {
    console.log(JSON.stringify(await apply(process.env.API, process.env.TOKEN, campaign, user)));
  } catch (error) {
    console.error(error instanceof Refused ? JSON.stringify(error.problem) : error.message);
    process.exitCode = 1;
  }
}
