// Rings of buckets. A slot is a bucket's number since the epoch; a ring keeps the newest reading slot per place, so that old data
// vanishes by being overwritten and never has to be cleaned up.

/** All sensors of one type: per bucket the range and sum of the ordinary readings, and the last anomaly. */
export class TypeWindow {
  constructor(buckets) {
    this.slots = new Float64Array(buckets).fill(-1);
    this.min = new Float64Array(buckets);
    this.max = new Float64Array(buckets);
    this.sum = new Float64Array(buckets);
    this.count = new Uint32Array(buckets);
    this.anomaly = new Float64Array(buckets);
  }

  add(slot, value, isAnomaly) {
    const at = slot % this.slots.length;
    if (this.slots[at] > slot) return;
    if (this.slots[at] < slot) {
      this.slots[at] = slot;
      this.min[at] = Number.POSITIVE_INFINITY;
      this.max[at] = Number.NEGATIVE_INFINITY;
      this.sum[at] = this.count[at] = 0;
      this.anomaly[at] = Number.NaN;
    }
    if (isAnomaly) {
      this.anomaly[at] = value;
      return;
    }
    this.min[at] = Math.min(this.min[at], value);
    this.max[at] = Math.max(this.max[at], value);
    this.sum[at] += value;
    this.count[at] += 1;
  }
}

/** One sensor: its last value per bucket, and its newest reading. */
export class SensorWindow {
  constructor(key, reading, buckets) {
    this.key = key;
    this.sensorId = reading.sensor_id;
    this.type = reading.sensor_type;
    this.slots = new Float64Array(buckets).fill(-1);
    this.values = new Float32Array(buckets);
    this.anomalies = 0;
    this.readings = 0;
    this.time = Number.NEGATIVE_INFINITY;
    this.last = reading;
  }

  add(slot, reading, time) {
    this.readings += 1;
    if (reading.anomaly) this.anomalies += 1;
    const at = slot % this.slots.length;
    if (slot >= this.slots[at]) {
      this.slots[at] = slot;
      this.values[at] = reading.value;
    }
    if (time < this.time) return;
    this.time = time;
    this.last = reading;
  }
}
