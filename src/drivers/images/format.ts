import type { DiskFormat } from '#cloud/compute/disk-images.driver.ts'

/** Enough of a file's beginning to tell what it is: an ISO says so in its seventeenth sector. */
export const HEAD_BYTES = 34_816

const QCOW2 = Buffer.from('QFI\xFB', 'latin1')
/** Of version 2; later ones are longer. */
const QCOW2_HEADER_BYTES = 72
const BACKING_AT = 8
const FEATURES_AT = 72
/** Its clusters are in another file. */
const EXTERNAL_DATA = 4n
const ISO_AT = 32_769
const ISO = Buffer.from('CD001')

/** Why a qcow2 image is not one that stands for itself. */
function qcow2Fault(head: Buffer): string | undefined {
  if (head.length < QCOW2_HEADER_BYTES) return 'ends within the header of a qcow2 image'
  const version = head.readUInt32BE(4)
  if (version !== 2 && version !== 3) return `is a qcow2 image of version ${version}; 2 and 3 are known`
  // Either would have a machine read whatever file of its host the image names.
  if (head.readBigUInt64BE(BACKING_AT) !== 0n)
    return 'is a qcow2 image that stands on another file; convert it to one that is whole'
  if (version === 3 && head.length < FEATURES_AT + 8) return 'ends within the header of a qcow2 image'
  if (version === 3 && (head.readBigUInt64BE(FEATURES_AT) & EXTERNAL_DATA) !== 0n)
    return 'is a qcow2 image whose data is in another file; convert it to one that is whole'
  return undefined
}

/** Why a file that begins like this is not of this format; undefined when it can be. Pure. */
export function formatFault(format: DiskFormat, head: Buffer): string | undefined {
  if (head.length === 0) return 'is empty'
  const isQcow2 = head.subarray(0, QCOW2.length).equals(QCOW2)
  if (format === 'qcow2' && !isQcow2) return 'is no qcow2 image; its name has to end as its format says'
  if (format === 'iso' && !head.subarray(ISO_AT, ISO_AT + ISO.length).equals(ISO))
    return 'is no ISO 9660 image'
  if (format === 'raw' && isQcow2) return 'is a qcow2 image and not a raw one'
  return isQcow2 ? qcow2Fault(head) : undefined
}
