/** Fails where the OpenAPI document is not valid. It is made of the built code alone (the types of parameters are in it): no database, no node. */
import 'reflect-metadata';
import { Validator } from '@seriousme/openapi-schema-validator';
import { AppModule } from '../dist/app.module.js';
import { controllersOf, openApi } from '../dist/docs/openapi.js';

const document = JSON.parse(JSON.stringify(openApi(controllersOf(AppModule))));
const { valid, errors } = await new Validator().validate(document);
if (!valid) {
  console.error('The OpenAPI document is not valid:', JSON.stringify(errors, null, 2));
  process.exitCode = 1;
}
