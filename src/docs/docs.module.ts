import { Module } from '@nestjs/common';
import { AsyncApiController } from './asyncapi.controller.js';

/** The documents that a node serves of itself. */
@Module({ controllers: [AsyncApiController] })
export class DocsModule {}
