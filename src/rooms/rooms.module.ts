import { Module } from '@nestjs/common';
import { MembersController } from './members.controller.js';
import { MembersService } from './members.service.js';
import { RoomsController } from './rooms.controller.js';
import { RoomsService } from './rooms.service.js';

@Module({ controllers: [RoomsController, MembersController], providers: [RoomsService, MembersService] })
export class RoomsModule {}
