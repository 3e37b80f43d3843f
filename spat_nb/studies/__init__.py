"The studies behind the claims; each module holds one `study`"
