/** Writes the models of an AsyncAPI document into a folder: node models.mjs DOCUMENT FOLDER */
import { readFile } from 'node:fs/promises';
import { TypeScriptFileGenerator } from '@asyncapi/modelina';

const [, , document, folder] = process.argv;
const generator = new TypeScriptFileGenerator({ modelType: 'interface', enumType: 'union', rawPropertyNames: true, moduleSystem: 'ESM' });
const models = await generator.generateToFiles(JSON.parse(await readFile(document, 'utf8')), folder, { exportType: 'named' });
if (models.length < 20) throw new Error(`only ${models.length} models came of the document`);
