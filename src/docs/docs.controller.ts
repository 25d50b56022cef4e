import { createReadStream } from 'node:fs';
import { Controller, Get, Header, StreamableFile, type Type as Class } from '@nestjs/common';
import { DiscoveryService } from '@nestjs/core';
import Type from 'typebox';
import { Operation } from '../rest/operation.js';
import { asyncApiJson, asyncApiYaml } from './asyncapi.js';
import { openApi } from './openapi.js';
import { contentSecurityPolicy, page, pageScript, swaggerUiScript, swaggerUiStyles } from './page.js';

const file = Type.Unsafe<StreamableFile>(Type.String());

/** What there is to know of this interface. Open to everybody: it says nothing of what the node holds. */
@Controller('docs')
export class DocsController {
  // Made when they are asked for: a node starts without them.
  private openApiJson: string | undefined;
  private asyncApiText: string | undefined;
  private asyncApiJsonText: string | undefined;

  constructor(private readonly discovery: DiscoveryService) {}

  @Get()
  @Header('content-type', 'text/html; charset=utf-8')
  @Header('content-security-policy', contentSecurityPolicy)
  @Header('referrer-policy', 'no-referrer')
  @Operation({ summary: 'Show this document as a page', answer: Type.String(), contentTypes: ['text/html'], errors: ['overloaded'] })
  page(): string {
    return page;
  }

  @Get('openapi.json')
  @Header('content-type', 'application/json; charset=utf-8')
  @Operation({ summary: 'Describe this interface in OpenAPI 3.1', answer: Type.Unsafe<string>({ type: 'object' }), errors: ['overloaded'] })
  openApi(): string {
    this.openApiJson ??= JSON.stringify(openApi(this.discovery.getControllers().map(({ metatype }) => metatype as Class)));
    return this.openApiJson;
  }

  @Get('asyncapi.yaml')
  @Header('content-type', 'application/yaml; charset=utf-8') // RFC 9512
  @Operation({
    summary: 'Describe the socket in AsyncAPI 3',
    answer: Type.Unsafe<string>({ type: 'object' }),
    contentTypes: ['application/yaml'],
    errors: ['overloaded'],
  })
  asyncApi(): string {
    this.asyncApiText ??= asyncApiYaml();
    return this.asyncApiText;
  }

  @Get('asyncapi.json')
  @Header('content-type', 'application/json; charset=utf-8')
  @Operation({
    summary: 'Describe the socket in AsyncAPI 3, as JSON',
    answer: Type.Unsafe<string>({ type: 'object' }),
    errors: ['overloaded'],
  })
  asyncApiAsJson(): string {
    this.asyncApiJsonText ??= asyncApiJson();
    return this.asyncApiJsonText;
  }

  @Get('page.js')
  @Header('content-type', 'text/javascript; charset=utf-8')
  @Operation({ summary: 'The script of the page', answer: Type.String(), contentTypes: ['text/javascript'], errors: ['overloaded'] })
  pageScript(): string {
    return pageScript;
  }

  @Get('swagger-ui-bundle.js')
  @Header('content-type', 'text/javascript; charset=utf-8')
  @Operation({
    summary: 'What the script of the page is built on',
    answer: file,
    contentTypes: ['text/javascript'],
    errors: ['overloaded'],
  })
  swaggerUiScript(): StreamableFile {
    return new StreamableFile(createReadStream(swaggerUiScript));
  }

  @Get('swagger-ui.css')
  @Header('content-type', 'text/css; charset=utf-8')
  @Operation({ summary: 'The styles of the page', answer: file, contentTypes: ['text/css'], errors: ['overloaded'] })
  swaggerUiStyles(): StreamableFile {
    return new StreamableFile(createReadStream(swaggerUiStyles));
  }
}
