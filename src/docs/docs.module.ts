import { Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { DocsController } from './docs.controller.js';

/** The documents that a node serves of itself. */
@Module({ imports: [DiscoveryModule], controllers: [DocsController] })
export class DocsModule {}
