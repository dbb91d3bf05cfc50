'use strict'

/** Each way to choose `size` of the first `count` items, as lists in their order: all that cozy-konnector-libs uses of geco. */
function* gen(count, size, items) {
  if (size === 0) {
    yield []
    return
  }
  for (let last = size - 1; last < count; last++) {
    for (const before of gen(last, size - 1, items)) yield [...before, items[last]]
  }
}

module.exports = { gen }
