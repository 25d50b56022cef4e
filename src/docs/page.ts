/**
 * The page of the documents: Swagger UI, whose files the node serves itself, so that it works where there is no internet. It may load and ask
 * nothing else.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** Swagger UI sets styles in its markup, and has its icons in its style sheet. */
export const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** Addresses are relative, so that it also works behind a proxy that puts a path in front. */
export const page = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>Trunkline: REST</title>
    <link rel="stylesheet" href="docs/swagger-ui.css" />
  </head>
  <body>
    <p>The WebSocket has a document of its own: <a href="docs/asyncapi.yaml">asyncapi.yaml</a>.</p>
    <div id="page"></div>
    <script src="docs/swagger-ui-bundle.js"></script>
    <script src="docs/page.js"></script>
  </body>
</html>
`;

/** Without a validator: it would send the document to a server on the internet. */
export const pageScript = `SwaggerUIBundle({ url: 'docs/openapi.json', dom_id: '#page', deepLinking: true, validatorUrl: null });\n`;

const swaggerUi = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'));
export const swaggerUiScript = join(swaggerUi, 'swagger-ui-bundle.js');
export const swaggerUiStyles = join(swaggerUi, 'swagger-ui.css');
