import { NestFactory } from '@nestjs/core';
import { Module } from '@nestjs/common';
import { FastifyAdapter } from '@nestjs/platform-fastify';
@Module({})
class AppModule {}
const app = await NestFactory.create(AppModule, new FastifyAdapter());
await app.listen(3999);
