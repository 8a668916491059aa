import type { Metadata } from '#cloud/cloud.ts'
import { objectId } from '#lib/object-id.ts'
import { deploymentsOf, privateNetworkOf, servicesOf } from './environment.ts'

/** The document that an instance finds about its environment (contract section 1.5, EnvironmentMetadataFile). */
export const metadataOf = (of: Metadata) => ({
  id: objectId(of.vpc.id),
  deployments: deploymentsOf(of.vpc),
  private_network: privateNetworkOf(of.vpc),
  services: servicesOf(of),
})
