export interface Answer {
  status: number;
  headers: Headers;
  /** The parsed body, text where it isn't JSON; undefined when there is none. */
  body: unknown;
}

export interface Call {
  method?: string;
  token?: string;
  /** Sent as JSON. */
  body?: unknown;
  /** Sent as it is, in the place of `body`. */
  raw?: string | Uint8Array<ArrayBuffer>;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** One call to what may be no node of ours, but stand in front of it, or in its place. */
export async function callAnything(url: string, path: string, request: Call = {}): Promise<Answer> {
  const { token, headers = {} } = request;
  const payload = payloadOf(request);
  const answer = await fetch(`${url}${path}`, {
    method: methodOf(request),
    headers: {
      ...(payload !== undefined && { 'content-type': 'application/json' }),
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...headers,
    },
    ...(payload !== undefined && { body: payload }),
    ...(request.signal !== undefined && { signal: request.signal }),
  });
  const text = await answer.text();
  const isJson = answer.headers.get('content-type')?.includes('json') === true;
  return { status: answer.status, headers: answer.headers, body: text === '' ? undefined : isJson ? JSON.parse(text) : text };
}

const payloadOf = ({ raw, body }: Call) => raw ?? (body === undefined ? undefined : JSON.stringify(body));
export const methodOf = (request: Call): string => request.method ?? (payloadOf(request) === undefined ? 'GET' : 'POST');
