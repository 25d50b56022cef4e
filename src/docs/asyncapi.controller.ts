import { Controller, Get, Header } from '@nestjs/common';
import { asyncApiYaml } from './asyncapi.js';

@Controller('docs')
export class AsyncApiController {
  private readonly text = asyncApiYaml();

  /** The contract of the socket. */
  @Get('asyncapi.yaml')
  @Header('content-type', 'application/yaml; charset=utf-8') // RFC 9512
  asyncApi(): string {
    return this.text;
  }
}
