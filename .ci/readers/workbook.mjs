// Reads a workbook with three libraries and prints, for each, the rows of every sheet as JSON: null for an
// empty cell, numbers as numbers, text as text. A library that cannot read it ends the program.
import { readFileSync } from 'node:fs';
import ExcelJS from 'exceljs';
import readExcelFile from 'read-excel-file/node';
import * as SheetJS from 'xlsx';

const file = process.argv[2];
const read = {};

const book = new ExcelJS.Workbook();
await book.xlsx.readFile(file);
read.exceljs = {};
for (const sheet of book.worksheets) {
  const rows = [];
  sheet.eachRow({ includeEmpty: true }, (row) => rows.push(row.values.slice(1).map((v) => v ?? null)));
  read.exceljs[sheet.name] = rows;
}

const other = SheetJS.read(readFileSync(file));
read.sheetjs = {};
for (const name of other.SheetNames) {
  read.sheetjs[name] = SheetJS.utils.sheet_to_json(other.Sheets[name], { header: 1, defval: null });
}

read.readexcelfile = {};
for (const { sheet, data } of await readExcelFile(file)) {
  read.readexcelfile[sheet] = data;
}

console.log(JSON.stringify(read));
