// A picture's codes as the page uses them: which code is where, and where else.

export class Codes {
  constructor(view) {
    const bytes = Uint8Array.from(atob(view.codes), (letter) => letter.charCodeAt(0));
    const values = new DataView(bytes.buffer);
    this.heads = view.code_heads;
    this.levels = view.levels;
    this.size = view.levels.reduce((product, level) => product * level, 1);
    [this.rows, this.columns] = view.grid_size;
    this.patches = this.rows * this.columns;
    this.values = Uint16Array.from({ length: bytes.length / 2 }, (_, i) => values.getUint16(2 * i, true));
    this.places = Array.from({ length: this.heads }, (_, head) => {
      const places = new Map(); // code -> patches
      for (let patch = 0; patch < this.patches; patch += 1) {
        const code = this.at(patch, head);
        if (!places.has(code)) places.set(code, []);
        places.get(code).push(patch);
      }
      return places;
    });
  }

  at(patch, head) {
    return this.values[patch * this.heads + head];
  }

  // The patches with the same code as one of them, itself included.
  same(patch, head) {
    return this.places[head].get(this.at(patch, head));
  }

  distinct(head) {
    return this.places[head].size;
  }

  digits(code) {
    return this.levels.map((level) => {
      const digit = code % level;
      code = Math.floor(code / level);
      return digit;
    });
  }

  // "row 3, column 5", counted from 1.
  name(patch) {
    return `row ${Math.floor(patch / this.columns) + 1}, column ${(patch % this.columns) + 1}`;
  }
}
