// The ranges [first, last] of locked frames by object number; number 0 stands for the whole frame.

export class LockedRanges {
  constructor() {
    this.ranges = {};
  }

  set(ranges) {
    this.ranges = ranges;
  }

  of(number) {
    return this.ranges[number] ?? [];
  }

  has(frame, number) {
    return this.of(number).some(([first, last]) => first <= frame && frame <= last);
  }

  isLocked(frame, number) {
    return this.has(frame, 0) || (number > 0 && this.has(frame, number));
  }

  objectsOn(frame) {
    return Object.keys(this.ranges).map(Number).filter((number) => number && this.has(frame, number));
  }
}
