import { Module } from '@nestjs/common';
import { ChatService } from './chat.service.js';
import { MessagesController } from './messages.controller.js';

@Module({ controllers: [MessagesController], providers: [ChatService], exports: [ChatService] })
export class ChatModule {}
