import { namesOf, type Workload } from '#cloud/compute/workload.kind.ts'

/** The suffix of a VPC's names: `<pod>.<vpc>.internal`. */
export const suffixOf = (vpcName: string): string => `${vpcName}.internal`

/** By what names a workload is found in its VPC: each of its own alone, and with the VPC's suffix. */
export const discoveredAs = (it: Workload, vpcName: string): readonly string[] =>
  namesOf(it).flatMap((name) => [name, `${name}.${suffixOf(vpcName)}`])
