/** Waits until `condition` gives something other than false or undefined, and returns it. Rejects after `withinMs` with the last error or `what`. */
export async function eventually<T>(condition: () => T | Promise<T>, what = 'the condition', withinMs = 10_000): Promise<NonNullable<T>> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    let failure: unknown;
    try {
      const value = await condition();
      if (value !== false && value !== undefined && value !== null) return value;
    } catch (error) {
      failure = error;
    }
    if (Date.now() > deadline) throw failure ?? new Error(`${what} did not come true within ${withinMs} ms`);
    await new Promise((soon) => setTimeout(soon, 10));
  }
}
